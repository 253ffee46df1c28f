# Semantic FPN on the embedded shapes data, from random weights, for any backbone: for a CPU.
#
# Follows no publication. 128 channels with GroupNorm in neck and head.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/datasets/shapes_semantic.py",
    "../_base_/schedules/schedule_shapes_semantic.py",
    "../_base_/segmentation_runtime.py",
]

norm = dict(type="GN", num_groups=8)
slim = dict(in_channels=[128] * 4, norm_cfg=dict(_delete_=True, **norm))
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    # The published layer scale of 1e-5 is for 300 epochs: here it would leave the blocks asleep.
    backbone=dict(type="PoolFormer", arch="s12", layer_scale=1.0),
    neck=dict(in_channels=[64, 128, 320, 512], out_channels=128, norm_cfg=norm),
    # Averaged over labelled pixels: most have no label, and how many differs from batch to batch.
    decode_head=dict(num_classes=4, loss_decode=dict(avg_non_ignore=True), **slim),
)
default_hooks = dict(checkpoint=dict(interval=375), logger=dict(interval=25))
