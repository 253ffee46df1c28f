# ConvNeXt-T in UPerNet on ADE20K, 160k: the authors' config. 46.0 mIoU, 46.7 at several scales, on
# their page.
#
# Rate 1e-4, stage-wise decay 0.9. Departs in precision: theirs was mixed, `--amp` here. Tests are
# on multiples of 32.
_base_ = "../upernet/upernet_160k_ade20k.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="tiny",
        drop_path_rate=0.4,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_tiny"),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
