# PoolFormer-S12 with attention in its two last stages in RetinaNet, 1x.
#
# A hybrid of the paper's Table 5, of which no dense results were published: PoolFormer's recipe.
# The position embedding is resampled to each map; the norm on each output is that of the blocks, a
# LayerNorm.
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(
        type="PoolFormer",
        arch="s12_ppaa",
        init_cfg=dict(checkpoint="metaformer://poolformer_s12_ppaa"),
    )
)
