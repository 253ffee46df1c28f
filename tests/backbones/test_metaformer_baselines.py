"""The five baselines against timm, and against the formulas in the authors' key layout."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor
from written_layouts import baselines_official

from mmplugins.backbones import CAFormer, ConvFormer, IdentityFormer, PoolFormerV2, RandFormer

IN_TIMM = [
    f"{family}_{arch}"
    for family, archs in {
        "poolformerv2": ("s12", "s24", "s36", "m36", "m48"),
        "convformer": ("s18", "s36", "m36", "b36"),
        "caformer": ("s18", "s36", "m36", "b36"),
    }.items()
    for arch in archs
]
SMALLEST = ("poolformerv2_s12", "convformer_s18", "caformer_s18")
DIMS = (64, 128, 320, 512)


@pytest.mark.parametrize(
    "name",
    [n if n in SMALLEST else pytest.param(n, marks=pytest.mark.slow) for n in IN_TIMM],
)
def test_same_features_as_timm(name, assert_same_as_timm):
    sizes = [(224, 224), (97, 131)]
    assert_same_as_timm(name, sizes if name in SMALLEST else [(64, 97)])


def test_timm_has_no_further_variant():
    """The comparisons with timm, here and for PoolFormer, cover all that timm has."""
    poolformer = [f"poolformer_{arch}" for arch in ("s12", "s24", "s36", "m36", "m48")]
    assert set(timm.list_models(module="metaformer")) == {*IN_TIMM, *poolformer}


MIXERS = {  # by stage, with the depths of the smallest variant
    IdentityFormer: ("iiii", (2, 2, 6, 2)),
    RandFormer: ("iirr", (2, 2, 6, 2)),
    PoolFormerV2: ("pppp", (2, 2, 6, 2)),
    ConvFormer: ("cccc", (3, 3, 9, 3)),
    CAFormer: ("ccaa", (3, 3, 9, 3)),
}


def official_features(
    weights: dict[str, Tensor], mixers: str, depths: tuple[int, ...], x: Tensor
) -> list[Tensor]:
    """The formulas written out, from official weights to the four stage outputs."""

    def norm(x, name, axes):
        centred = x - x.mean(axes, keepdim=True)
        x = centred / (centred.square().mean(axes, keepdim=True) + 1e-6).sqrt()
        return x * weights[f"{name}.weight"].view(1, -1, 1, 1)

    def pointwise(x, name):
        return torch.einsum("oc,nchw->nohw", weights[f"{name}.weight"], x)

    def star_relu(x, name):
        return weights[f"{name}.scale"] * x.clamp(min=0) ** 2 + weights[f"{name}.bias"]

    def mix(x, kind, name):
        n, c, h, w = x.shape
        if kind == "c":
            x = star_relu(pointwise(x, f"{name}.pwconv1"), f"{name}.act1")
            x = F.conv2d(x, weights[f"{name}.dwconv.weight"], padding=3, groups=2 * c)
            return pointwise(x, f"{name}.pwconv2")
        if kind == "a":
            qkv = pointwise(x, f"{name}.qkv").reshape(n, 3, c // 32, 32, h * w)
            q, k, v = qkv.unbind(1)
            scores = torch.einsum("nhdq,nhdk->nhqk", q, k) / 32**0.5
            x = torch.einsum("nhqk,nhdk->nhdq", scores.softmax(-1), v)
            return pointwise(x.reshape(n, c, h, w), f"{name}.proj")
        if kind == "r":
            matrix = weights[f"{name}.random_matrix"]
            return torch.einsum("st,nct->ncs", matrix, x.flatten(2)).view_as(x)
        if kind == "p":
            count = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)  # the share inside the map
            return F.avg_pool2d(x, 3, 1, 1) / count - x
        return x

    def conv(x, name, stride, padding):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding)

    def res_scale(name):
        return weights[name].view(1, -1, 1, 1) if name in weights else 1

    channels, whole = (1,), (1, 2, 3)
    block_axes = channels if mixers[0] == "c" else whole
    outs = []
    for i, mixer in enumerate(mixers):
        at = f"downsample_layers.{i}"
        if i == 0:
            x = norm(conv(x, f"{at}.conv", 4, 2), f"{at}.post_norm", channels)
        else:
            x = conv(norm(x, f"{at}.pre_norm", channels), f"{at}.conv", 2, 1)
        for j in range(depths[i]):
            at = f"stages.{i}.{j}"
            mixed = mix(norm(x, f"{at}.norm1", block_axes), mixer, f"{at}.token_mixer")
            x = res_scale(f"{at}.res_scale1.scale") * x + mixed
            hidden = pointwise(norm(x, f"{at}.norm2", block_axes), f"{at}.mlp.fc1")
            mixed = pointwise(star_relu(hidden, f"{at}.mlp.act"), f"{at}.mlp.fc2")
            x = res_scale(f"{at}.res_scale2.scale") * x + mixed
        outs.append(x)
    return outs


@pytest.mark.parametrize("family", MIXERS)
@torch.no_grad()
def test_official_weights_give_the_features_of_the_paper(family, randomise, assert_close):
    mixers, depths = MIXERS[family]
    writer = baselines_official(family.__name__.lower(), depths, DIMS)
    weights = randomise(writer.state_dict)
    model = family(out_norm=None).eval()
    model.load_state_dict(weights)  # strict: every weight has its place, none is left
    x = torch.randn(1, 3, *((224, 224) if "r" in mixers else (97, 131)))
    for a, e in zip(model(x), official_features(weights, mixers, depths, x), strict=True):
        assert_close(a, e)


def test_randformer_passes_its_policy_on():
    for settings, expected in ({}, "resample"), (dict(policy="window"), "window"):
        stages = RandFormer("s12", **settings).stages
        policies = {b.token_mixer.policy for stage in stages[2:] for b in stage.blocks}
        assert policies == {expected}


def test_only_the_last_two_stages_scale_their_shortcuts():
    model = CAFormer()
    scaled = {n.split(".")[1] for n, _ in model.named_parameters() if "res_scale" in n}
    assert scaled == {"2", "3"}
    assert not any("layer_scale" in n for n, _ in model.named_parameters())


def test_output_norm_defaults_to_layer_norm_with_bias():
    for family in MIXERS:
        norm = family(arch=dict(depths=(1, 1, 1, 1), dims=(32, 32, 32, 32))).out_norms["0"]
        assert type(norm).__name__ == "LayerNorm2d"
        assert norm.eps == 1e-6 and norm.bias is not None


def test_family_settings_can_be_overridden():
    model = ConvFormer("s18", mlp_act="GELU", token_mixers=dict(type="SepConv", kernel_size=3))
    block = model.stages[0].blocks[0]
    assert type(block.mlp.act).__name__ == "GELU"
    assert block.token_mixer.dwconv.kernel_size == (3, 3)
