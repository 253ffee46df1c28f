# PoolFormer-S12 in RetinaNet, 1x: the authors' released config. 36.2 AP in their paper (Table 3).
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(
        type="PoolFormer", arch="s12", init_cfg=dict(checkpoint="metaformer://poolformer_s12")
    )
)
