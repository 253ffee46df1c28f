# sMLPNet-S in Semantic FPN on ADE20K, 40k.
#
# No dense results were published: PoolFormer's recipe. On each output a LayerNorm. The weights
# along rows and columns are resampled to each map. S is the smallest size whose weights were
# released.
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(type="sMLPNet", arch="s", init_cfg=dict(checkpoint="metaformer://smlpnet_s")),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
