# Semantic FPN on a small set in the layout of ADE20K, for minutes on a CPU: half-size pictures.
#
# Follows no publication. study.py sets data_root and the number of steps.
_base_ = [
    "../../configs/_base_/models/semantic_fpn.py",
    "../../configs/_base_/datasets/ade20k_format.py",
    "../../configs/_base_/segmentation_runtime.py",
]

classes = ("sky", "building", "pole", "road", "sidewalk", "tree")
classes += ("sign", "fence", "car", "pedestrian", "bicyclist")
norm = dict(type="GN", num_groups=8)
model = dict(
    data_preprocessor=dict(size=(160, 224)),
    backbone=dict(type="PoolFormer", arch="s12"),
    neck=dict(in_channels=[64, 128, 320, 512], out_channels=64, norm_cfg=norm),
    decode_head=dict(
        in_channels=[64] * 4,
        channels=64,
        num_classes=len(classes),
        norm_cfg=dict(_delete_=True, **norm),
        loss_decode=dict(avg_non_ignore=True),
    ),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(240, 180), ratio_range=(0.9, 1.5), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(160, 224), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(256, 192), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
data = dict(
    type="BaseSegDataset",
    data_root="data/camvid",
    metainfo=dict(classes=classes),
    reduce_zero_label=True,
)
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(**data, pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(type="IterBasedTrainLoop", max_iters=100, val_interval=100)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
)
