# PoolFormerV2-S12 in Mask R-CNN, 1x.
#
# No dense results were published: PoolFormer's recipe. On each output a LayerNorm, as before the
# family's classifier.
_base_ = "../mask_rcnn/mask-rcnn_1x_coco.py"

model = dict(
    backbone=dict(
        type="PoolFormerV2", arch="s12", init_cfg=dict(checkpoint="metaformer://poolformerv2_s12")
    )
)
