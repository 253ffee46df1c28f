# ADE20K, 640x640 crops: the setting of the published UPerNets from ImageNet-22K.
_base_ = "ade20k.py"

crop_size = (640, 640)
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(scale=(2560, 640))
train_pipeline[3].update(crop_size=crop_size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(2560, 640))
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type="Resize", scale=(int(2560 * r), int(640 * r)), keep_ratio=True)
    for r in _base_.img_ratios
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
