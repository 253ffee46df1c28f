# The embedded shapes data, boxes: made in data_root when first used, then reused.
#
# To change the pictures, change `generate` in both loaders (the loaders share one folder) and give
# another data_root, or remove the old folder: a folder made with other parameters is never reused.
_base_ = "coco_format.py"

dataset_type = "mmplugins.datasets.shapes_detection.ShapesDetection"
data_root = "data/shapes/"
generate = dict(image_size=128, num_train=1200, num_val=240, seed=0)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(128, 128), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(128, 128), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        generate=generate,
        ann_file="annotations/instances_train.json",
        data_prefix=dict(img="images/training/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        generate=generate,
        ann_file="annotations/instances_val.json",
        data_prefix=dict(img="images/validation/"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# Built after its data loader, so the file is there when it is read.
val_evaluator = dict(ann_file=data_root + "annotations/instances_val.json")
test_evaluator = val_evaluator
