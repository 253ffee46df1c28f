# ConvFormer-S18 in Semantic FPN on ADE20K, 40k.
#
# No results with this head and no dense code were published: PoolFormer's recipe. On each output a
# LayerNorm, as before the family's classifier. No drop path, as in that recipe.
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(
        type="ConvFormer", arch="s18", init_cfg=dict(checkpoint="metaformer://convformer_s18")
    )
)
