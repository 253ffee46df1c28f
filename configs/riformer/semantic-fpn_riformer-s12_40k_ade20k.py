# RIFormer-S12 in Semantic FPN on ADE20K, 40k.
#
# No dense results were published: PoolFormer's recipe. Its output norms too. Trained with the
# affine mixers, which fold into the norms for inference (`switch_to_deploy`).
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(
        type="RIFormer", arch="s12", init_cfg=dict(checkpoint="metaformer://riformer_s12")
    )
)
