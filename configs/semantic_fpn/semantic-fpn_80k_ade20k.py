# Semantic FPN on ADE20K, 80k, for any backbone: PVT's recipe as its paper has it.
#
# AdamW 1e-4 with decay 1e-4 on everything, poly 0.9, 8 x 2 crops of 512, no drop path (PVT's own
# is 0.1), nothing frozen, tests at multiples of 32. Another backbone: `--backbone NAME`.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/schedule_80k.py",
    "../_base_/segmentation_runtime.py",
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type="PoolFormer",
        arch="s12",
        init_cfg=dict(type="Pretrained", checkpoint="metaformer://poolformer_s12"),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
train_dataloader = dict(batch_size=2)
