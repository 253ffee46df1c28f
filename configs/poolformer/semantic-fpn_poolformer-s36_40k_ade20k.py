# PoolFormer-S36 in Semantic FPN on ADE20K, 40k: the authors' released config. 42.0 mIoU in their
# paper (Table 4).
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(backbone=dict(arch="s36", init_cfg=dict(checkpoint="metaformer://poolformer_s36")))
