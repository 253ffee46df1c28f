# ResNet-101 in Mask R-CNN, 1x: the comparison row of PVT's and PoolFormer's tables. 40.4 box and
# 36.4 mask AP there.
#
# Stem and first stage stay frozen, and the tables leave them out: they print 63.2 of 63.4 M
# parameters.
_base_ = "mask-rcnn_r50_fpn_1x_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
