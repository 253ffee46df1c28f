# ConvNeXt-B in Cascade Mask R-CNN, 3x with multi-scale crops: the authors' config. 52.7 box and
# 45.6 mask AP on their page.
#
# Rate 2e-4, layer-wise decay 0.8. Departs in precision: theirs was mixed, `--amp` here.
_base_ = "../cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="base",
        drop_path_rate=0.7,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_base"),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8))
