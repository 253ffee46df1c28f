# Mask R-CNN on the embedded shapes data, from random weights, for any backbone: small, for a CPU.
#
# Follows no publication. A slim neck and slim heads, and anchors for objects of 20 to 82 pixels,
# none of which is long.
_base_ = [
    "../_base_/models/mask_rcnn_slim.py",
    "../_base_/datasets/shapes_instance.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/detection_runtime.py",
]

anchors = dict(scales=[4, 5.6], ratios=[1.0], strides=[4, 8, 16, 32])
model = dict(
    # The published layer scale of 1e-5 is for 300 epochs: here it would leave the blocks asleep.
    backbone=dict(type="PoolFormer", arch="s12", layer_scale=1.0),
    neck=dict(in_channels=[64, 128, 320, 512], num_outs=4),
    rpn_head=dict(anchor_generator=anchors),
    roi_head=dict(bbox_head=dict(num_classes=4), mask_head=dict(num_classes=4)),
)
