# PoolFormer-S12 in a slim RetinaNet on the embedded shapes data, from random weights: the demo.
#
# Follows no publication. The backbone is the published one but for its layer scale, which starts
# at 0.1: the published 1e-5 is for 300 epochs and leaves the blocks asleep in a short training.
_base_ = [
    "../_base_/models/retinanet.py",
    "../_base_/datasets/shapes_detection.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(type="PoolFormer", arch="s12", layer_scale=0.1),
    neck=dict(in_channels=[128, 320, 512], out_channels=96),
    bbox_head=dict(num_classes=5, in_channels=96, feat_channels=96),
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
