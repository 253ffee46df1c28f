# ResNet-101 in Semantic FPN on ADE20K, 40k: the comparison row of PVT's and PoolFormer's tables.
# 38.8 mIoU there.
_base_ = "semantic-fpn_r50_40k_ade20k.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="open-mmlab://resnet101_v1c")))
