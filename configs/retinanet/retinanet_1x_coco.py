# RetinaNet on COCO, 1x, for any backbone: PoolFormer's recipe, which is PVT's.
#
# AdamW 1e-4 with decay 1e-4 on everything, 8 x 2 pictures of up to 1333x800, 500 steps of warm-up
# from a thousandth, no drop path (PVT's own is 0.1), nothing frozen. Another backbone:
# `--backbone NAME`.
_base_ = [
    "../_base_/models/retinanet.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(
        type="PoolFormer",
        arch="s12",
        init_cfg=dict(type="Pretrained", checkpoint="metaformer://poolformer_s12"),
    ),
    neck=dict(in_channels=[128, 320, 512]),
)
