# PoolFormer-S12 in Mask R-CNN, 1x: the authors' released config. 37.3 box and 34.6 mask AP in their
# paper (Table 3), whose text has half this rate, 1e-4.
_base_ = "../mask_rcnn/mask-rcnn_1x_coco.py"

model = dict(
    backbone=dict(
        type="PoolFormer", arch="s12", init_cfg=dict(checkpoint="metaformer://poolformer_s12")
    )
)
