# RetinaNet on a small set in COCO format, for minutes on a CPU: 320x240 pictures, slim head.
#
# Follows no publication. study.py sets data_root and the number of steps.
_base_ = [
    "../../configs/_base_/models/retinanet.py",
    "../../configs/_base_/datasets/coco_format.py",
    "../../configs/_base_/detection_runtime.py",
]

classes = ("RBC", "WBC", "Platelets")
norm = dict(type="GN", num_groups=8)
slim = dict(in_channels=96, feat_channels=96, stacked_convs=2, norm_cfg=norm)
model = dict(
    backbone=dict(type="PoolFormer", arch="s12"),
    neck=dict(in_channels=[128, 320, 512], out_channels=96, num_outs=3, add_extra_convs=False)
    | dict(norm_cfg=norm),
    bbox_head=dict(
        num_classes=len(classes),
        anchor_generator=dict(octave_base_scale=3, ratios=[1.0], strides=[8, 16, 32]),
        **slim,
    ),
)

resize = dict(type="Resize", scale=(320, 240), keep_ratio=True)
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    resize,
    dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    resize,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        type="CocoDataset",
        data_root="data/bccd",
        metainfo=dict(classes=classes),
        ann_file="annotations/instances_train.json",
        data_prefix=dict(img="train/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        type="CocoDataset",
        data_root="data/bccd",
        metainfo=dict(classes=classes),
        ann_file="annotations/instances_val.json",
        data_prefix=dict(img="val/"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="data/bccd/annotations/instances_val.json")
test_evaluator = val_evaluator

train_cfg = dict(type="IterBasedTrainLoop", max_iters=100, val_interval=100)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
)
