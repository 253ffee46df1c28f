# Pictures and label maps in the folders of ADE20K: what all such data sets share.
train_dataloader = dict(
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
    ),
)
val_dataloader = dict(
    batch_size=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmplugins.evaluation.iou.PerClassIoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
