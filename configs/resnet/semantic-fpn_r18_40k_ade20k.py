# ResNet-18 in Semantic FPN on ADE20K, 40k: the comparison row of PVT's and PoolFormer's tables.
# 32.9 mIoU there.
_base_ = "semantic-fpn_r50_40k_ade20k.py"

model = dict(
    backbone=dict(depth=18, init_cfg=dict(checkpoint="open-mmlab://resnet18_v1c")),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
