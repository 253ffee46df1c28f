# ConvNeXt-T in Cascade Mask R-CNN, 3x with multi-scale crops: the authors' config. 50.4 box and
# 43.7 mask AP on their page.
#
# Rate 2e-4, layer-wise decay 0.7. Departs in precision: theirs was mixed, `--amp` here.
_base_ = "../cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="tiny",
        drop_path_rate=0.4,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_tiny"),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
