# PoolFormer-M36 in Semantic FPN on ADE20K, 40k: the authors' released config. 42.4 mIoU in their
# paper (Table 4).
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(arch="m36", init_cfg=dict(checkpoint="metaformer://poolformer_m36")),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
