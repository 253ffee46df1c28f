# ConvNeXt-L from ImageNet-22K in UPerNet on ADE20K, 160k, crops of 640: the authors' config. 53.2
# mIoU, 53.7 at several scales, on their page.
#
# Rate 1e-4, stage-wise decay 0.9. Full precision, as theirs. Tests are on multiples of 32.
_base_ = "../upernet/upernet_160k_ade20k-640x640.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="large",
        drop_path_rate=0.4,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_large_in21k"),
    ),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768),
)
