# IdentityFormer-S12 in RetinaNet, 1x.
#
# No dense results were published: PoolFormer's recipe. On each output a LayerNorm, as before the
# family's classifier.
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(
        type="IdentityFormer",
        arch="s12",
        init_cfg=dict(checkpoint="metaformer://identityformer_s12"),
    )
)
