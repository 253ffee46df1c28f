# Minutes on two CPU cores, from random weights: 8 epochs over the 1,200 shapes, 600 steps of 16.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=8, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR",
        begin=0,
        end=8,
        by_epoch=True,
        convert_to_iter_based=True,
        eta_min_ratio=0.01,
    ),
]
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
auto_scale_lr = dict(enable=False, base_batch_size=16)
