# RIFormer-S12 in Mask R-CNN, 1x.
#
# No dense results were published: PoolFormer's recipe. Its output norms too. Trained with the
# affine mixers, which fold into the norms for inference (`switch_to_deploy`).
_base_ = "../mask_rcnn/mask-rcnn_1x_coco.py"

model = dict(
    backbone=dict(
        type="RIFormer", arch="s12", init_cfg=dict(checkpoint="metaformer://riformer_s12")
    )
)
