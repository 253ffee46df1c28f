# A linear head on the embedded shapes data, from random weights, for any backbone: for a CPU.
_base_ = [
    "../_base_/models/linear.py",
    "../_base_/datasets/shapes_semantic.py",
    "../_base_/schedules/schedule_shapes_semantic.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    # The published layer scale of 1e-5 is for 300 epochs: here it would leave the blocks asleep.
    backbone=dict(type="PoolFormer", arch="s12", layer_scale=1.0),
    decode_head=dict(
        in_channels=[64, 128, 320, 512], num_classes=4, loss_decode=dict(avg_non_ignore=True)
    ),
)
