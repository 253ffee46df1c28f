"""What a config's backbones put out, found once and handed on."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from recipes import TINY, recipe
from torch import nn

from mmplugins.engine import SettingError, check_fit
from mmplugins.engine.config import outline
from mmplugins.engine.config.outline import ComposedConfig, Maps, UnknownMaps, backbone_maps


@pytest.fixture
def looked_at(monkeypatch) -> list[str]:
    """Types of the backbones that are built to be looked at."""
    found = []

    def noted(backbone, *args, _build=outline.build_outline):
        found.append(backbone["type"])
        return _build(backbone, *args)

    monkeypatch.setattr(outline, "build_outline", noted)
    return found


def test_maps_of_some_levels():
    maps = Maps((64, 128, 320, 512), (4, 8, 16, 32))
    assert maps[1:] == maps[(1, 2, 3)] == Maps((128, 320, 512), (8, 16, 32))
    assert maps[[0, 3]] == Maps((64, 512), (4, 32))


def test_options_that_leave_the_backbone_alone_do_not_have_it_built_again(looked_at):
    cfg = recipe("mmdet_retinanet")
    composed = ComposedConfig.of(cfg)
    check_fit(composed)
    assert looked_at == ["ResNet"]
    other = composed.merged({"model.neck.out_channels": 64, "train_cfg.max_epochs": 1})
    assert other.parts["model"].config.neck.out_channels == 64
    with pytest.raises(SettingError, match=r"bbox_head\.in_channels is 256"):
        check_fit(other)
    assert looked_at == ["ResNet"]
    less = other.merged({"model.backbone.depth": 18})
    assert looked_at == ["ResNet"] * 2
    assert less.parts["model"].maps == Maps((64, 128, 256, 512), (4, 8, 16, 32))


@pytest.mark.parametrize("name", ["mmdet_retinanet", "upernet"])
def test_what_is_built_is_not_built_to_be_looked_at(name, looked_at):
    cfg = recipe(name)
    own = ComposedConfig.of(cfg).parts["model"].maps
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models, torch.device("meta"):
        model = models.build(recipe(name).model)
    looked_at.clear()
    assert ComposedConfig.of(cfg, model).parts["model"].maps == own
    assert looked_at == []


def test_a_wrapper_with_other_names_is_looked_at_by_its_config(looked_at):
    cfg = Config(dict(model=dict(type="SemiBaseDetector", detector=dict(backbone=TINY))))
    (part,) = ComposedConfig.of(cfg, nn.Module()).parts.values()
    assert part.maps.channels == (8, 16, 24, 32) and looked_at == ["PoolFormer"]


def test_maps_that_cannot_be_told(looked_at):
    """A built backbone that does not run is not built a second time to see whether that does."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(7, 7))

        def forward(self, image):
            return image @ self.weight

    model = nn.Module()
    model.backbone = Square()
    with pytest.raises(UnknownMaps, match="Square has no out_channels and out_strides"):
        backbone_maps(TINY, None, model.backbone)
    cfg = Config(dict(model=dict(backbone=TINY, neck=dict(type="FPN", in_channels=[1]))))
    composed = ComposedConfig.of(cfg, model)
    assert composed.parts["model"].maps is None and looked_at == []
    check_fit(composed)  # has nothing to say
    with pytest.raises(SettingError, match="expects in_channels"):
        check_fit(cfg)


def test_a_backbone_without_a_type_has_no_maps():
    assert ComposedConfig.of(Config(dict(model=dict(backbone={})))).parts["model"].maps is None
