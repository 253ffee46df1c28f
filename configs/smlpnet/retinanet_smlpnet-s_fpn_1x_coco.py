# sMLPNet-S in RetinaNet, 1x.
#
# No dense results were published: PoolFormer's recipe. On each output a LayerNorm. The weights
# along rows and columns are resampled to each map. S is the smallest size whose weights were
# released.
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(type="sMLPNet", arch="s", init_cfg=dict(checkpoint="metaformer://smlpnet_s")),
    neck=dict(in_channels=[192, 384, 768]),
)
