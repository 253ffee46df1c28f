# ConvNeXt-L from ImageNet-22K in Cascade Mask R-CNN, 3x with multi-scale crops: the authors'
# config. 54.8 box and 47.6 mask AP on their page.
#
# Rate 1e-4, layer-wise decay 0.7. Full precision, as theirs.
_base_ = "../cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="large",
        drop_path_rate=0.7,
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_large_in21k"),
    ),
    neck=dict(in_channels=[192, 384, 768, 1536]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
