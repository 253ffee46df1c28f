# RetinaNet on the embedded shapes data, from random weights, for any backbone: minutes on a CPU.
#
# Follows no publication. Neck and head have 128 channels with GroupNorm, the three levels that
# objects of 20 to 82 pixels need, and one form of anchor, as no object is long.
_base_ = [
    "../_base_/models/retinanet.py",
    "../_base_/datasets/shapes_detection.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/detection_runtime.py",
]

norm = dict(type="GN", num_groups=8)
slim = dict(in_channels=128, feat_channels=128, stacked_convs=3, norm_cfg=norm)
neck = dict(out_channels=128, num_outs=3, add_extra_convs=False, norm_cfg=norm)
anchors = dict(octave_base_scale=3, ratios=[1.0], strides=[8, 16, 32])
model = dict(
    # The published layer scale of 1e-5 is for 300 epochs: here it would leave the blocks asleep.
    backbone=dict(type="PoolFormer", arch="s12", layer_scale=1.0),
    neck=dict(in_channels=[128, 320, 512], **neck),
    bbox_head=dict(num_classes=4, anchor_generator=anchors, **slim),
)
