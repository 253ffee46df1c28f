# ResNet-50 in Semantic FPN on ADE20K, 40k: the comparison row of PVT's and PoolFormer's tables.
# 36.7 mIoU there.
#
# SGD 0.02 with decay 5e-4, as PoolFormer's repository has it, and mmseg's ResNet, whose stem has
# three small convolutions. Nothing is frozen.
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNetV1c",
        depth=50,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnet50_v1c"),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.02, momentum=0.9, weight_decay=5e-4, fused=True)
)
