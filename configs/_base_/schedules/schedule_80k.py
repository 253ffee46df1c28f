# 80k steps of 16 pictures over ADE20K: as many pictures as in 40k, at half the rate. PVT's
# paper describes its Semantic FPN so; PVT's and PoolFormer's released files have schedule_40k.py.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=80000, val_interval=8000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=80000, eta_min=0.0, by_epoch=False)]
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4, fused=True)
)

# The rate above belongs to 16 pictures per step; `--auto-scale-lr` fits it to another number.
auto_scale_lr = dict(enable=False, base_batch_size=16)
