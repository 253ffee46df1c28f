# PoolFormer-S12 in RetinaNet, 1x: the recipe of the authors' released config. 36.2 AP published.
#
# As there: AdamW 1e-4 with decay 1e-4, 8 x 2 pictures of up to 1333x800, 500 steps of warm-up from
# a thousandth, no drop path, nothing frozen, a GroupNorm on each output.
_base_ = [
    "../_base_/models/retinanet.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/detection_runtime.py",
]

weights = "https://github.com/sail-sg/poolformer/releases/download/v1.0/poolformer_s12.pth.tar"
model = dict(
    backbone=dict(
        type="PoolFormer", arch="s12", init_cfg=dict(type="Pretrained", checkpoint=weights)
    ),
    neck=dict(in_channels=[128, 320, 512]),
)
