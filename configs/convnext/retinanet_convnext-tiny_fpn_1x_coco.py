# ConvNeXt-T in RetinaNet, 1x.
#
# Not among the authors' results: PoolFormer's recipe, without drop path and layer-wise decay. On
# each output a LayerNorm, as in the authors' dense models.
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="tiny",
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_tiny"),
    ),
    neck=dict(in_channels=[192, 384, 768]),
)
