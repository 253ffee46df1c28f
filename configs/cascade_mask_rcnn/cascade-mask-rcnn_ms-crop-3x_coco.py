# Cascade Mask R-CNN on COCO, 3x with multi-scale crops, for any backbone: ConvNeXt's recipe.
#
# AdamW 2e-4 with decay 0.05, 8 x 2 pictures, layer-wise decay 0.7 (sizes T and S). Leaves add the
# drop path of their size; without one it is 0. Another backbone: `--backbone NAME`.
_base_ = [
    "../_base_/models/cascade_mask_rcnn.py",
    "../_base_/datasets/coco_instance_ms_crop.py",
    "../_base_/schedules/schedule_3x.py",
    "../_base_/detection_runtime.py",
]

model = dict(
    backbone=dict(
        type="PoolFormer",
        arch="s12",
        init_cfg=dict(type="Pretrained", checkpoint="metaformer://poolformer_s12"),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(decay_rate=0.7))
