# PVT-Small in Semantic FPN on ADE20K, 40k: the authors' released config. 39.8 mIoU in their paper
# (Table 5), 41.9 on the page of their code.
_base_ = "semantic-fpn_pvt-tiny_40k_ade20k.py"

model = dict(
    backbone=dict(
        num_layers=[3, 4, 6, 3],
        init_cfg=dict(
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_small.pth"
        ),
    )
)
