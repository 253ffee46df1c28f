# COCO 2017 boxes and masks with the multi-scale augmentation of published 3x schedules.
#
# From DETR: half of the pictures get a short side of 480 to 800; the other half are first brought
# to 400, 500 or 600 and cropped, so that small objects also appear large. Tests are at 1333x800.
_base_ = "coco_instance.py"

ms_scales = [(side, 1333) for side in range(480, 801, 32)]
ms_resize = dict(type="RandomChoiceResize", scales=ms_scales, keep_ratio=True)
ms_crop = [
    dict(type="RandomChoiceResize", scales=[(s, 1333) for s in (400, 500, 600)], keep_ratio=True),
    dict(
        type="RandomCrop",
        crop_type="absolute_range",
        crop_size=(384, 600),
        allow_negative_crop=True,
    ),
    ms_resize,
]
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomChoice", transforms=[[ms_resize], ms_crop]),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
