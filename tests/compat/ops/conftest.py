"""mmcv's own Python ops over the stand-in."""

import math
from importlib import import_module

import pytest
import torch

import mmplugins.compat

mmplugins.compat.install()
ops = import_module("mmplugins.compat.ops")

MMCV_MODULES = [
    "bbox",
    "carafe",
    "deform_conv",
    "focal_loss",
    "info",
    "masked_conv",
    "modulated_deform_conv",
    "multi_scale_deform_attn",
    "nms",
    "roi_align",
    "roi_pool",
    "sync_bn",
]


@pytest.fixture(autouse=True)
def stand_in_behind_mmcv(monkeypatch):
    """Have mmcv.ops call the stand-in, even where a compiled ``mmcv._ext`` is installed."""
    torch.manual_seed(0)
    for name in MMCV_MODULES:
        monkeypatch.setattr(import_module(f"mmcv.ops.{name}"), "ext_module", ops)


@pytest.fixture
def bilinear():
    """Bilinear sample of a 2-D tensor at (y, x), with zeros all around it."""

    def sample(image, y, x):
        top, left = math.floor(y), math.floor(x)
        value = 0.0
        for row in (top, top + 1):
            for column in (left, left + 1):
                if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    value += share * float(image[row, column])
        return value

    return sample
