# ConvNeXt-T in Semantic FPN on ADE20K, 40k.
#
# Not among the authors' results: PoolFormer's recipe, without drop path and layer-wise decay. On
# each output a LayerNorm, as in the authors' dense models.
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(
        type="ConvNeXt",
        arch="tiny",
        layer_scale=1.0,
        init_cfg=dict(checkpoint="metaformer://convnext_tiny"),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
