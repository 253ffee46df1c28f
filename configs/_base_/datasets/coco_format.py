# Boxes in COCO's format: what all such data sets share.
train_dataloader = dict(persistent_workers=True, sampler=dict(type="DefaultSampler", shuffle=True))
val_dataloader = dict(
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(test_mode=True),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmplugins.evaluation.coco.FastCocoMetric", metric="bbox")
test_evaluator = val_evaluator
