# PoolFormer-S36 in RetinaNet, 1x: the authors' released config. 39.5 AP in their paper (Table 3).
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(backbone=dict(arch="s36", init_cfg=dict(checkpoint="metaformer://poolformer_s36")))
