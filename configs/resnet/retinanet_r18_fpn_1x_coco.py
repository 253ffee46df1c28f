# ResNet-18 in RetinaNet, 1x: the comparison row of PVT's and PoolFormer's tables. 31.8 AP there.
#
# Stem and first stage stay frozen, and the tables leave them out: they print 21.3 of 21.4 M
# parameters.
_base_ = "retinanet_r50_fpn_1x_coco.py"

model = dict(
    backbone=dict(depth=18, init_cfg=dict(checkpoint="torchvision://resnet18")),
    neck=dict(in_channels=[128, 256, 512]),
)
