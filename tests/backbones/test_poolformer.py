"""PoolFormer and its hybrids against timm and against the formulas, in the authors' key layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from written_layouts import poolformer_official

from mmplugins.backbones import PoolFormer

LARGER = [pytest.param(arch, marks=pytest.mark.slow) for arch in ("s24", "s36", "m36", "m48")]


@pytest.mark.parametrize("arch", ["s12", *LARGER])
def test_same_features_as_timm(arch, assert_same_as_timm):
    sizes = [(224, 224), (97, 131)] if arch == "s12" else [(64, 97)]
    assert_same_as_timm(f"poolformer_{arch}", sizes)


HYBRIDS = {
    "s12": "pppp",
    "s12_identity": "iiii",
    "s12_pppa": "pppa",
    "s12_ppaa": "ppaa",
    "s12_pppf": "pppf",
    "s12_ppff": "ppff",
}
DIMS, DEPTHS = (64, 128, 320, 512), (2, 2, 6, 2)


def official_entries(stages: str) -> list[tuple[str, int]]:
    """The authors' list ``network``: what stands at each index, and its stage."""
    entries = []
    for i, mixer in enumerate(stages):
        if i:
            entries.append(("downsample", i))
        if mixer == "a" and "a" not in stages[:i]:
            entries.append(("pos_embed", i))
        entries.append(("blocks", i))
    return entries


def official_features(weights: dict[str, Tensor], stages: str, x: Tensor) -> list[Tensor]:
    """The formulas of the paper written out, from official weights to the four stage outputs."""

    def norm(x, name):
        axes = 1 if "a" in stages else (1, 2, 3)
        centred = x - x.mean(axes, keepdim=True)
        x = centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()
        w, b = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return x * w.view(1, -1, 1, 1) + b.view(1, -1, 1, 1)

    def pointwise(x, name):
        w = weights[f"{name}.weight"].flatten(1)
        return torch.einsum("oc,nchw->nohw", w, x) + weights[f"{name}.bias"].view(1, -1, 1, 1)

    def attention(x, name):
        n, c, h, w = x.shape
        qkv = torch.einsum("oc,nchw->nohw", weights[f"{name}.qkv.weight"], x)
        q, k, v = qkv.reshape(n, 3, c // 32, 32, h * w).unbind(1)
        scores = torch.einsum("nhdq,nhdk->nhqk", q, k) / 32**0.5
        x = torch.einsum("nhqk,nhdk->nhdq", scores.softmax(-1), v).reshape(n, c, h, w)
        return pointwise(x, f"{name}.proj")

    def mix(x, kind, name):
        if kind == "p":
            ones = x.new_ones(1, 1, 3, 3)
            count = F.conv2d(torch.ones_like(x[:1, :1]), ones, padding=1)
            total = F.conv2d(x, ones.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
            return total / count - x
        if kind == "a":
            return attention(x, name)
        if kind == "f":
            w = weights[f"{name}.fc.weight"]
            return torch.einsum("nct,st->ncs", x.flatten(2), w).view_as(x)
        return x

    def strided(x, name, stride, padding):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding)

    def scale(name):
        return weights[name].view(1, -1, 1, 1)

    x = strided(x, "patch_embed.proj", 4, 2)
    outs = []
    for n, (kind, i) in enumerate(official_entries(stages)):
        if kind == "downsample":
            x = strided(x, f"network.{n}.proj", 2, 1)
        elif kind == "pos_embed":
            x = x + weights[f"network.{n}.pos_embed"]
        else:
            for j in range(DEPTHS[i]):
                at = f"network.{n}.{j}"
                mixed = mix(norm(x, f"{at}.norm1"), stages[i], f"{at}.token_mixer")
                x = x + scale(f"{at}.layer_scale_1") * mixed
                hidden = F.gelu(pointwise(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1"))
                x = x + scale(f"{at}.layer_scale_2") * pointwise(hidden, f"{at}.mlp.fc2")
            outs.append(x)
    return outs


@pytest.mark.parametrize("arch", HYBRIDS)
@torch.no_grad()
def test_official_weights_give_the_features_of_the_paper(arch, randomise, assert_close):
    stages = HYBRIDS[arch]
    weights = randomise(poolformer_official(DEPTHS, DIMS, stages).state_dict)
    model = PoolFormer(arch, out_norm=None).eval()
    model.load_state_dict(weights)  # strict: every weight has its place, none is left
    x = torch.randn(1, 3, 224, 224)
    expected = official_features(weights, stages, x)
    for a, e in zip(model(x), expected, strict=True):
        assert_close(a, e)


@pytest.mark.parametrize(
    ("arch", "counts"),
    [
        ("s12", (11_403_200, 11_403_072)),
        ("s24", (20_876_992, 20_876_864)),
        ("s36", (30_350_784, 30_350_656)),
        ("m36", (55_404_864, 55_404_672)),
        ("m48", (72_705_792, 72_705_600)),
    ],
)
def test_parameters_with_output_norms(arch, counts):
    """On all outputs, and on the three that RetinaNet takes (the authors' FORK_LAST3)."""
    for out_indices, count in zip([(0, 1, 2, 3), (1, 2, 3)], counts, strict=True):
        with torch.device("meta"):
            model = PoolFormer(arch, out_indices=out_indices)
        assert sum(p.numel() for p in model.parameters()) == count


def test_layer_scale_starts_as_published_and_can_be_chosen():
    def start(**kwargs):
        model = PoolFormer(out_indices=(0,), **kwargs)
        return model.stages[0].blocks[0].layer_scale1

    assert start(arch="s24").scale.unique().item() == pytest.approx(1e-5)
    assert start(arch="s36").scale.unique().item() == pytest.approx(1e-6)
    assert start(arch="s36", layer_scale=0.1).scale.unique().item() == pytest.approx(0.1)
    assert not list(start(layer_scale=None).parameters())


def test_output_norm_defaults_to_the_norm_of_the_blocks():
    assert type(PoolFormer("s12").out_norms["3"]).__name__ == "GroupNorm1"
    norm = PoolFormer("s12_ppaa").out_norms["3"]
    assert type(norm).__name__ == "LayerNorm2d"
    assert norm.eps == 1e-5 and norm.bias is not None
