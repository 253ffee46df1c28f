# schedule_shapes.py counted in steps: 750 of 16 pictures, which is 10 epochs of the 1,200 shapes.
_base_ = "schedule_shapes.py"

steps = 750
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=steps, val_interval=375)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", begin=0, end=steps, by_epoch=False, eta_min_ratio=0.01),
]
# Pixels by their texture take smaller steps than boxes: at 4e-3 nothing is learnt.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(base_batch_size=16)
