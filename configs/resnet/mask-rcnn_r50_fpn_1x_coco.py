# ResNet-50 in Mask R-CNN, 1x: the comparison row of PVT's and PoolFormer's tables. 38.0 box and
# 34.4 mask AP there.
#
# mmdet's ResNet and its SGD: how that row was trained, neither paper says. Stem and first stage
# stay frozen, and the tables leave them out: they print 44.2 of 44.4 M parameters.
_base_ = "../mask_rcnn/mask-rcnn_1x_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=50,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4, fused=True)
)
