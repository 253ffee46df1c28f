# ConvNeXt-B in UPerNet on ADE20K, 160k: the authors' config. 49.1 mIoU, 49.9 at several scales, on
# their page.
#
# Rate 1e-4, stage-wise decay 0.9. Departs in precision: theirs was mixed, `--amp` here. Tests are
# on multiples of 32.
_base_ = "../upernet/upernet_160k_ade20k.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="base",
        drop_path_rate=0.4,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_base"),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
