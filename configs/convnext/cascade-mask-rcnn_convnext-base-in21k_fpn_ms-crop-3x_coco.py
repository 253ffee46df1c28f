# ConvNeXt-B from ImageNet-22K in Cascade Mask R-CNN, 3x with multi-scale crops: the authors'
# config. 54.0 box and 46.9 mask AP on their page.
#
# Rate 1e-4, layer-wise decay 0.8. Departs in precision: theirs was mixed, `--amp` here.
_base_ = "../cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="base",
        drop_path_rate=0.6,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_base_in21k"),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(decay_rate=0.8))
