# PoolFormer-S24 in RetinaNet, 1x: the authors' released config. 38.9 AP in their paper (Table 3).
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(backbone=dict(arch="s24", init_cfg=dict(checkpoint="metaformer://poolformer_s24")))
