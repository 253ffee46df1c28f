"""Commands of tools/leaderboard.py that train tiny backbones for three steps."""

from __future__ import annotations

ARCH = "arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))"
BACKBONES = (f"pool=dict(type='PoolFormer', {ARCH})", f"conv=dict(type='ConvFormer', {ARCH})")
SMALL = [
    f"{loader}.{option}"
    for loader in ("train_dataloader", "val_dataloader")
    for option in ("num_workers=0", "persistent_workers=False", "dataset.generate.num_train=6",
                   "dataset.generate.num_val=2")
]  # fmt: skip
COMMON = ["--sets", "semantic", "--steps", "3", "--batch", "2", "--image-size", "64", "--rounds",
          "1", "--cost-size", "64", "64", "--seeds", "1", "--cfg-options", *SMALL]  # fmt: skip
