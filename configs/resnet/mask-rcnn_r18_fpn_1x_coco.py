# ResNet-18 in Mask R-CNN, 1x: the comparison row of PVT's and PoolFormer's tables. 34.0 box and
# 31.2 mask AP there.
#
# Stem and first stage stay frozen, and the tables leave them out: they print 31.2 of 31.3 M
# parameters.
_base_ = "mask-rcnn_r50_fpn_1x_coco.py"

model = dict(
    backbone=dict(depth=18, init_cfg=dict(checkpoint="torchvision://resnet18")),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
