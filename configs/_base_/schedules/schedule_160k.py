# 160k steps of 16 pictures over ADE20K: 1,500 of warm-up, then a straight fall to zero, with the
# optimiser of ConvNeXt's UPerNet.
#
# AdamW with decay 0.05, none on norms, biases and other vectors; the rate falls by decay_rate from
# stage to stage towards the stem. ConvNeXt's runs up to size B used mixed precision: `--amp` does.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=160000, val_interval=16000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, begin=1500, end=160000, eta_min=0.0, by_epoch=False),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=0.9, decay_type="stage_wise"),
)

# The rate above belongs to 16 pictures per step; `--auto-scale-lr` fits it to another number.
auto_scale_lr = dict(enable=False, base_batch_size=16)
