"""ConvNeXt against timm, its foreign weights, and its published layer-decay rule."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor

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


DEPTHS, DIMS = (1, 2, 3, 1), (16, 24, 32, 40)
ARCH = dict(depths=DEPTHS, dims=DIMS)


def official_state_dict(dense: bool = False) -> dict[str, Tensor]:
    """Random weights under the names of the authors' code, of a classifier or of a dense model."""
    random = torch.Generator().manual_seed(0)

    def layer(name, *shape):
        weight = torch.randn(shape, generator=random)
        return {f"{name}.weight": weight, f"{name}.bias": torch.randn(shape[0], generator=random)}

    out = layer("downsample_layers.0.0", DIMS[0], 3, 4, 4) | layer("downsample_layers.0.1", DIMS[0])
    for i, dim in enumerate(DIMS):
        if i:
            out |= layer(f"downsample_layers.{i}.0", DIMS[i - 1])
            out |= layer(f"downsample_layers.{i}.1", dim, DIMS[i - 1], 2, 2)
        for j in range(DEPTHS[i]):
            at = f"stages.{i}.{j}"
            out |= layer(f"{at}.dwconv", dim, 1, 7, 7) | layer(f"{at}.norm", dim)
            out |= layer(f"{at}.pwconv1", 4 * dim, dim) | layer(f"{at}.pwconv2", dim, 4 * dim)
            out[f"{at}.gamma"] = torch.randn(dim, generator=random)
        if dense:
            out |= layer(f"norm{i}", dim)
    return out if dense else out | layer("norm", DIMS[3]) | layer("head", 10, DIMS[3])


def translate(weights: dict[str, Tensor], *words: tuple[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in weights.items():
        for old, new in words:
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


MMPRETRAIN = ("dwconv", "depthwise_conv"), ("pwconv", "pointwise_conv"), ("head.", "head.fc.")


def assert_loaded(model: ConvNeXt, weights: dict[str, Tensor]) -> None:
    """Every tensor of the official dict is where it belongs."""
    for key, value in model.state_dict().items():
        words = key.split(".")
        if words[0] == "stem":
            theirs = ["downsample_layers", "0", str(["conv", "norm"].index(words[1]))]
        elif words[0] == "out_norms":
            theirs = [f"norm{words[1]}"]
        elif words[2] == "downsample":
            theirs = ["downsample_layers", words[1], str(["norm", "conv"].index(words[3]))]
        else:
            part = ".".join(words[4:-1])
            part = {"mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2"}.get(part, part)
            theirs = ["stages", words[1], words[3], part]
        name = ".".join([*theirs, words[-1]]).replace("layer_scale.scale", "gamma")
        assert torch.equal(value.flatten(), weights[name].flatten()), (key, name)


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("words", [(), MMPRETRAIN], ids=["official", "mmpretrain"])
def test_classifier_file(words, prefix):
    weights = official_state_dict()
    theirs = translate(weights, *words, *([("norm.", "norm3.")] if words else []))
    # that also renamed the norms inside of blocks
    theirs = {k.replace(".norm3.", ".norm."): v for k, v in theirs.items()}
    theirs = {(k if k.startswith("head") else prefix + k): v for k, v in theirs.items()}
    model = ConvNeXt(ARCH, out_norm=None)
    model.load_state_dict(theirs)
    assert_loaded(model, weights)
    with_norms = ConvNeXt(ARCH)
    missing, unexpected = with_norms.load_state_dict(theirs, strict=False)
    assert unexpected == [] and {key.split(".")[0] for key in missing} == {"out_norms"}
    assert (with_norms.out_norms["3"].weight == 1).all()


@pytest.mark.parametrize("words", [(), MMPRETRAIN], ids=["official", "mmpretrain"])
def test_dense_file(words):
    weights = official_state_dict(dense=True)
    model = ConvNeXt(ARCH)
    model.load_state_dict(translate(weights, *words))
    assert_loaded(model, weights)


@pytest.mark.parametrize("features_only", [False, True])
def test_timm_file(features_only, randomise):
    """Strictly, with 2-D and with 4-D pointwise weights; nothing but the classifier is left out."""
    for conv_mlp in (False, True):
        theirs = timm.create_model(
            "convnext_tiny", **ARCH, conv_mlp=conv_mlp, features_only=features_only
        )
        randomise(theirs)
        model = ConvNeXt(ARCH, out_norm=None)
        model.load_state_dict(theirs.state_dict())
        total = sum(v.double().sum() for k, v in theirs.state_dict().items() if "head" not in k)
        assert sum(v.double().sum() for v in model.state_dict().values()) == pytest.approx(total)


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
