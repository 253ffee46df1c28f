# ResNet-50 in RetinaNet, 1x: the comparison row of PVT's and PoolFormer's tables. 36.3 AP there.
#
# mmdet's ResNet and its SGD: how that row was trained, neither paper says. Stem and first stage
# stay frozen, and the tables leave them out: they print 37.7 of 38.0 M parameters.
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=50,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    neck=dict(in_channels=[512, 1024, 2048]),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
)
