# PoolFormer-S36 in Mask R-CNN, 1x: the authors' released config. 41.0 box and 37.7 mask AP in their
# paper (Table 3), whose text has half this rate, 1e-4.
_base_ = "../mask_rcnn/mask-rcnn_1x_coco.py"

model = dict(backbone=dict(arch="s36", init_cfg=dict(checkpoint="metaformer://poolformer_s36")))
