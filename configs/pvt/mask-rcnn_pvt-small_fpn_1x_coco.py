# PVT-Small in Mask R-CNN, 1x: the authors' released config. 40.4 box and 37.8 mask AP in their
# paper (Table 4).
_base_ = "mask-rcnn_pvt-tiny_fpn_1x_coco.py"

model = dict(
    backbone=dict(
        num_layers=[3, 4, 6, 3],
        init_cfg=dict(
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_small.pth"
        ),
    )
)
