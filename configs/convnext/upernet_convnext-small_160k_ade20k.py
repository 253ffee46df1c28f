# ConvNeXt-S in UPerNet on ADE20K, 160k: the authors' config. 48.7 mIoU, 49.6 at several scales, on
# their page.
#
# Rate 1e-4, stage-wise decay 0.9. Departs in precision: theirs was mixed, `--amp` here. Tests are
# on multiples of 32.
_base_ = "../upernet/upernet_160k_ade20k.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="small",
        drop_path_rate=0.3,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_small"),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
