# UPerNet on ADE20K, 160k, crops of 640, for any backbone: ConvNeXt's recipe.
#
# AdamW 1e-4 with decay 0.05, stage-wise decay 0.9, 8 x 2 crops, tests in windows of 640 at steps
# of 426, on pictures resized to multiples of 32 (the authors' are not). Leaves add the drop path of
# their size; without one it is 0. Another backbone: `--backbone NAME`.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/ade20k_640x640.py",
    "../_base_/schedules/schedule_160k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type="PoolFormer",
        arch="s12",
        init_cfg=dict(type="Pretrained", checkpoint="metaformer://poolformer_s12"),
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(426, 426)),
)
train_dataloader = dict(batch_size=2)
