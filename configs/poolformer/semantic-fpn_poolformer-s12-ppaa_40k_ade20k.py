# PoolFormer-S12 with attention in its two last stages in Semantic FPN on ADE20K, 40k.
#
# A hybrid of the paper's Table 5, of which no dense results were published: PoolFormer's recipe.
# The position embedding is resampled to each map; the norm on each output is that of the blocks, a
# LayerNorm.
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(
        type="PoolFormer",
        arch="s12_ppaa",
        init_cfg=dict(checkpoint="metaformer://poolformer_s12_ppaa"),
    )
)
