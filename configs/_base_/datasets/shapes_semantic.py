# The embedded shapes data, semantic maps: made in data_root when first used, then reused.
#
# To change the pictures, change `generate` in both loaders (the loaders share one folder) and give
# another data_root, or remove the old folder: a folder made with other parameters is never reused.
_base_ = "ade20k_format.py"

dataset_type = "mmplugins.datasets.shapes_segmentation.ShapesSegmentation"
data_root = "data/shapes/"
generate = dict(image_size=128, num_train=1200, num_val=240, seed=0)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="RandomFlip", prob=0.5, direction="vertical"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeToMultiple", size_divisor=32),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        generate=generate,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        generate=generate,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
