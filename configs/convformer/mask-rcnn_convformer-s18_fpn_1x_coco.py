# ConvFormer-S18 in Mask R-CNN, 1x.
#
# No results with this head and no dense code were published: PoolFormer's recipe. On each output a
# LayerNorm, as before the family's classifier. No drop path, as in that recipe.
_base_ = "../mask_rcnn/mask-rcnn_1x_coco.py"

model = dict(
    backbone=dict(
        type="ConvFormer", arch="s18", init_cfg=dict(checkpoint="metaformer://convformer_s18")
    )
)
