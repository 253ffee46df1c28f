# IdentityFormer-S12 in Semantic FPN on ADE20K, 40k.
#
# No dense results were published: PoolFormer's recipe. On each output a LayerNorm, as before the
# family's classifier.
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(
        type="IdentityFormer",
        arch="s12",
        init_cfg=dict(checkpoint="metaformer://identityformer_s12"),
    )
)
