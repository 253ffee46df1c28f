# 3x: 36 epochs over COCO, rate / 10 after 27 and 33, with the optimiser of ConvNeXt's detectors.
#
# AdamW with decay 0.05, none on norms, biases and other vectors; the rate falls from layer to layer
# towards the stem by decay_rate, which a leaf sets together with the rate itself. ConvNeXt's runs
# up to size B used mixed precision: `--amp` does.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=36, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=0.95, decay_type="layer_wise"),
)

# The rate above belongs to 16 pictures per step; `--auto-scale-lr` fits it to another number.
auto_scale_lr = dict(enable=False, base_batch_size=16)
