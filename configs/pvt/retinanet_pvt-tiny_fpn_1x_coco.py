# PVT-Tiny in RetinaNet, 1x: the authors' released config. 36.7 AP in their paper (Table 3).
#
# The backbone is mmdet's, which has no norm on its outputs. Drop path 0.1, as theirs.
_base_ = "../retinanet/retinanet_1x_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="PyramidVisionTransformer",
        num_layers=[2, 2, 2, 2],
        drop_path_rate=0.1,
        out_indices=(1, 2, 3),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth",
        ),
    ),
)
