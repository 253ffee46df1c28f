"""A frozen backbone: no gradients, no statistics, the same maps with and without a cache."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmplugins.backbones.frozen import FrozenBackbone

ARCH = dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
TINY = dict(type="ConvFormer", arch=ARCH, out_indices=(1, 3))


class Noisy(nn.Module):
    """Whatever would change from call to call: dropout and running statistics."""

    out_channels, out_strides = (4,), (1,)

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.calls = 0

    def forward(self, x):
        self.calls += len(x)
        return (self.body(x),)


@pytest.fixture
def noisy(monkeypatch):
    monkeypatch.setitem(MODELS._module_dict, "Noisy", Noisy)
    return dict(type="Noisy")


def test_nothing_is_learnt_and_nothing_changes(noisy):
    model = FrozenBackbone(noisy).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    (one,), (two,) = model(x), model(x)
    assert torch.equal(one, two) and not one.requires_grad
    assert model.training and not model.backbone.training
    assert not any(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_it_says_of_itself_what_the_backbone_says():
    model = FrozenBackbone(TINY)
    assert (model.out_channels, model.out_strides) == ((16, 32), (8, 32))
    assert [tuple(x.shape) for x in model(torch.rand(1, 3, 64, 64))] == [
        (1, 16, 8, 8),
        (1, 32, 2, 2),
    ]
    name = "stages.3.blocks.0.norm1.weight"
    assert model.get_layer_depth(f"backbone.backbone.{name}", "backbone.") == (
        model.backbone.get_layer_depth(name)
    )
    with pytest.raises(AttributeError):
        model.no_such_thing  # noqa: B018


def test_pictures_that_come_again_are_read(noisy, tmp_path):
    plain, model = FrozenBackbone(noisy), FrozenBackbone(noisy, str(tmp_path))
    plain.load_state_dict(model.state_dict())
    a, b, c = (torch.rand(1, 3, 8, 8) for _ in range(3))
    first = model(torch.cat([a, b]))[0]
    assert torch.allclose(first, plain(torch.cat([a, b]))[0]) and model.backbone.calls == 2
    again = model(torch.cat([c, b, a]))[0]
    assert model.backbone.calls == 3
    assert torch.equal(again[1:], first.flip(0))
    # Another process with the same weights shares them, one with other weights does not.
    other = FrozenBackbone(noisy, str(tmp_path))
    assert not torch.equal(other(a)[0], first[:1]) and other.backbone.calls == 1
    same = FrozenBackbone(noisy, str(tmp_path))
    same.load_state_dict(model.state_dict())
    assert torch.equal(same(a)[0], first[:1]) and same.backbone.calls == 0


def test_the_cache_has_a_bound(noisy, tmp_path):
    model = FrozenBackbone(noisy, str(tmp_path), cache_gib=1500 / 2**30)
    x = torch.rand(3, 3, 8, 8)  # about 1,100 bytes of maps each
    assert torch.equal(model(x)[0], model(x)[0])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1 and model.backbone.calls == 5
