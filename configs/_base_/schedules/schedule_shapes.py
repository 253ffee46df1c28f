# Minutes on two CPU cores, from random weights: 10 epochs over the 1,200 shapes, 1,500 steps of 8.
epochs = 10
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR",
        begin=0,
        end=epochs,
        by_epoch=True,
        convert_to_iter_based=True,
        eta_min_ratio=0.01,
    ),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=4e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
custom_hooks = [dict(type="ChannelsLastHook")]
randomness = dict(seed=0)
