# PVT-Tiny in Semantic FPN on ADE20K, 40k: the authors' released config. 35.7 mIoU in their paper
# (Table 5), 36.6 on the page of their code.
#
# The backbone is mmdet's, which has no norm on its outputs. Drop path 0.1, as theirs.
_base_ = "../semantic_fpn/semantic-fpn_40k_ade20k.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmdet.PyramidVisionTransformer",
        num_layers=[2, 2, 2, 2],
        drop_path_rate=0.1,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth",
        ),
    ),
)
