# PoolFormer-S24 in RetinaNet, 1x: the recipe of the authors' released config. 38.9 AP published.
_base_ = "retinanet_poolformer-s12_fpn_1x_coco.py"

weights = "https://github.com/sail-sg/poolformer/releases/download/v1.0/poolformer_s24.pth.tar"
model = dict(backbone=dict(arch="s24", init_cfg=dict(checkpoint=weights)))
