# ConvNeXt-XL from ImageNet-22K in UPerNet on ADE20K, 160k, crops of 640: the authors' config. 53.6
# mIoU, 54.0 at several scales, on their page.
#
# Rate 8e-5, stage-wise decay 0.9. Full precision, as theirs. Tests are on multiples of 32.
_base_ = "../upernet/upernet_160k_ade20k-640x640.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="xlarge",
        drop_path_rate=0.4,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_xlarge_in21k"),
    ),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=8e-5))
