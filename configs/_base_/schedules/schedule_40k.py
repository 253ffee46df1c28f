# 40k steps of 32 pictures over ADE20K, rate falling by a power of 0.9, no warm-up, with the
# optimiser of PoolFormer's released Semantic FPN: AdamW without exceptions from weight decay.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=4000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=40000, eta_min=0.0, by_epoch=False)]
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4, fused=True)
)

# The rate above belongs to 32 pictures per step; `--auto-scale-lr` fits it to another number.
auto_scale_lr = dict(enable=False, base_batch_size=32)
