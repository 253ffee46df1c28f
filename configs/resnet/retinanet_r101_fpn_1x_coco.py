# ResNet-101 in RetinaNet, 1x: the comparison row of PVT's and PoolFormer's tables. 38.5 AP there.
#
# Stem and first stage stay frozen, and the tables leave them out: they print 56.7 of 57.0 M
# parameters.
_base_ = "retinanet_r50_fpn_1x_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
