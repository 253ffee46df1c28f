"""ConvNeXt against timm, and its published layer-decay rule."""

from __future__ import annotations

import pytest
import torch

from mmplugins.backbones import ConvNeXt

SIZES = [(224, 224), (97, 131), (33, 64), (63, 35)]


LARGER = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("small", "base")]


@pytest.mark.parametrize("arch", ["tiny", *LARGER])
def test_same_features_as_timm(arch, assert_same_as_timm):
    assert_same_as_timm(f"convnext_{arch}", SIZES if arch == "tiny" else [(64, 97)])


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_sides_are_rounded_down(size):
    outs = ConvNeXt(dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)))(torch.randn(1, 3, *size))
    for out, stride in zip(outs, (4, 8, 16, 32), strict=True):
        assert out.shape[2:] == (size[0] // stride, size[1] // stride)


ARCH = dict(depths=(1, 2, 3, 1), dims=(16, 24, 32, 40))


def published_layer(name: str, last: int) -> int:
    """The authors' table: stages 0 and 1 are layers 1 and 2, stage 2 is cut in threes."""
    kind, stage, *rest = name.split(".")
    if kind == "stem":
        return 0
    if kind == "out_norms":
        return last + 1
    if stage == "3":
        return last
    if rest[0] == "downsample":
        return {"1": 2, "2": 3}[stage]
    return {"0": 1, "1": 2}.get(stage, 3 + int(rest[1]) // 3)


@pytest.mark.parametrize(("arch", "num_layers"), [("tiny", 6), ("base", 12)])
def test_layer_depth_is_the_published_rule(arch, num_layers):
    with torch.device("meta"):
        model = ConvNeXt(arch)
    seen = set()
    for name, _ in model.named_parameters():
        depth, count = model.get_layer_depth(f"backbone.{name}", "backbone.")
        assert count == num_layers + 2
        assert depth == published_layer(name, num_layers), name
        seen.add(depth)
    assert seen == set(range(num_layers + 2))
    assert model.get_layer_depth("neck.weight", "backbone.") == (num_layers + 1, num_layers + 2)


def test_start():
    torch.manual_seed(0)
    model = ConvNeXt(ARCH)
    for name, value in model.named_parameters():
        if value.ndim > 1:
            assert value.abs().max() < 2 and value.std().item() == pytest.approx(0.02, rel=0.2)
        elif name.endswith("layer_scale.scale"):
            assert (value == 1e-6).all()
        else:
            assert (value == (0 if name.endswith("bias") else 1)).all()
    assert not [n for n, _ in ConvNeXt(ARCH, layer_scale=None).named_parameters() if "scale" in n]
    rates = [
        getattr(block.drop_path, "p", 0.0)
        for stage in ConvNeXt(ARCH, drop_path_rate=0.6).stages
        for block in stage.blocks
    ]
    assert rates == pytest.approx([0.1 * k for k in range(7)])
