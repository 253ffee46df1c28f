# Mask R-CNN on COCO, 1x, for any backbone: PoolFormer's recipe, which is PVT's.
#
# As RetinaNet's, but AdamW at 2e-4: so say both released configs, while the papers' text says 1e-4.
# Another backbone: `--backbone NAME`.
_base_ = [
    "../_base_/models/mask_rcnn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(
        type="PoolFormer",
        arch="s12",
        init_cfg=dict(type="Pretrained", checkpoint="metaformer://poolformer_s12"),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
