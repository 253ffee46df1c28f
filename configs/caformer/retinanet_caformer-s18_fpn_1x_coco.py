# CAFormer-S18 in RetinaNet, 1x.
#
# No results with this head and no dense code were published: PoolFormer's recipe. On each output a
# LayerNorm, as before the family's classifier. No drop path, as in that recipe.
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(
        type="CAFormer", arch="s18", init_cfg=dict(checkpoint="metaformer://caformer_s18")
    )
)
