"""A linear head is linear: batch norm, and one 1x1 convolution, by plain code beside it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from mmplugins.engine import compose, load_config
from mmplugins.heads.linear import LinearHead

CONFIGS = Path(__file__).parents[2] / "configs/linear"
MAPS = [torch.rand(2, c, s, s) for c, s in ((4, 8), (6, 4), (8, 2))]


def test_several_maps_are_resized_and_joined():
    head = LinearHead([4, 6, 8], num_classes=5, norm_cfg=dict(type="BN"), align_corners=False)
    head.norm.running_mean.uniform_()
    head.eval()
    joined = torch.cat(
        [F.interpolate(x, (8, 8), mode="bilinear", align_corners=False) for x in MAPS], 1
    )
    norm, last = head.norm, head.conv_seg
    normed = (joined - norm.running_mean[:, None, None]) / (1 + norm.eps) ** 0.5
    expected = torch.einsum("nchw,kc->nkhw", normed, last.weight[:, :, 0, 0])
    expected = expected + last.bias[:, None, None]
    assert torch.allclose(head(MAPS), expected, atol=1e-5)
    assert sum(p.numel() for p in head.parameters()) == 2 * 18 + 18 * 5 + 5


def test_one_map():
    head = LinearHead(8, num_classes=5)
    assert head(MAPS).shape == (2, 5, 2, 2) and head.norm.num_features == 8
    assert LinearHead(6, 1, num_classes=5)(MAPS).shape == (2, 5, 4, 4)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_configs_take_any_backbone(config):
    cfg = compose(load_config(config), "timm/resnet18")
    cfg.model.backbone = dict(
        type="FrozenBackbone", backbone=dict(cfg.model.backbone, init_cfg=None)
    )
    with MODELS.switch_scope_and_registry("mmseg") as models:
        model = models.build(cfg.model)
    channels = 512 if "last" in config.stem else 64 + 128 + 256 + 512
    assert model.decode_head.conv_seg.in_channels == channels
    assert all(
        name.startswith("decode_head") for name, p in model.named_parameters() if p.requires_grad
    )
