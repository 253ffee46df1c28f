# A linear head on ADE20K, 40k, for any backbone: what its features hold without a decoder.
#
# The schedule, crops and optimiser of Semantic FPN's recipe; a leaderboard freezes the backbone by
# `starts: [frozen]`. Another backbone: `--backbone NAME`.
_base_ = [
    "../_base_/models/linear.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/schedule_40k.py",
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
)
train_dataloader = dict(batch_size=4)
