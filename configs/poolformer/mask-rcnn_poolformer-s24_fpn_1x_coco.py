# PoolFormer-S24 in Mask R-CNN, 1x: the authors' released config. 40.1 box and 37.0 mask AP in their
# paper (Table 3), whose text has half this rate, 1e-4.
_base_ = "../mask_rcnn/mask-rcnn_1x_coco.py"

model = dict(backbone=dict(arch="s24", init_cfg=dict(checkpoint="metaformer://poolformer_s24")))
