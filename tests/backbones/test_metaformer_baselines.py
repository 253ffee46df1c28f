"""The five baselines against timm, and against the formulas in the authors' key layout."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.backbones import CAFormer, ConvFormer, IdentityFormer, PoolFormerV2, RandFormer
from mmplugins.backbones.catalog import build_backbone, families

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


def official_state_dict(mixers: str, depths: tuple[int, ...]) -> dict[str, Tensor]:
    """A classifier's random weights under the names of the authors' code: pointwise ones 2-D."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape, mean=0.0):
        std = torch.Size(shape[1:]).numel() ** -0.5 if len(shape) > 1 else 0.2
        return torch.randn(shape, generator=random) * std + mean

    def act(name):
        return {f"{name}.scale": normal(1, mean=1), f"{name}.bias": normal(1)}

    out = {}
    for i, (mixer, dim) in enumerate(zip(mixers, DIMS, strict=True)):
        at = f"downsample_layers.{i}"
        out[f"{at}.conv.weight"] = normal(dim, DIMS[i - 1], 3, 3) if i else normal(dim, 3, 7, 7)
        out[f"{at}.conv.bias"] = normal(dim)
        out |= (
            {f"{at}.pre_norm.weight": normal(DIMS[i - 1], mean=1)}
            if i
            else {f"{at}.post_norm.weight": normal(dim, mean=1)}
        )
        for j in range(depths[i]):
            at = f"stages.{i}.{j}"
            out[f"{at}.norm1.weight"] = normal(dim, mean=1)
            out[f"{at}.norm2.weight"] = normal(dim, mean=1)
            out[f"{at}.mlp.fc1.weight"] = normal(4 * dim, dim)
            out |= act(f"{at}.mlp.act")
            out[f"{at}.mlp.fc2.weight"] = normal(dim, 4 * dim)
            if i >= 2:
                out[f"{at}.res_scale1.scale"] = normal(dim, mean=1)
                out[f"{at}.res_scale2.scale"] = normal(dim, mean=1)
            at = f"{at}.token_mixer"
            if mixer == "c":
                out[f"{at}.pwconv1.weight"] = normal(2 * dim, dim)
                out |= act(f"{at}.act1")
                out[f"{at}.dwconv.weight"] = normal(2 * dim, 1, 7, 7)
                out[f"{at}.pwconv2.weight"] = normal(dim, 2 * dim)
            elif mixer == "a":
                out[f"{at}.qkv.weight"] = normal(3 * dim, dim)
                out[f"{at}.proj.weight"] = normal(dim, dim)
            elif mixer == "r":
                tokens = (14, 7)[i - 2] ** 2
                uniform = torch.rand(tokens, tokens, generator=random)
                out[f"{at}.random_matrix"] = uniform.softmax(-1)
    out |= {"norm.weight": normal(512, mean=1), "norm.bias": normal(512)}
    if mixers[0] == "c":  # ConvFormer and CAFormer have an MLP as classifier
        out |= {"head.fc1.weight": normal(2048, 512), "head.fc1.bias": normal(2048)}
        out |= {"head.norm.weight": normal(2048), "head.norm.bias": normal(2048)}
        return out | {"head.fc2.weight": normal(1000, 2048), "head.fc2.bias": normal(1000)}
    return out | {"head.weight": normal(1000, 512), "head.bias": normal(1000)}


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
def test_official_weights_give_the_features_of_the_paper(family, assert_close):
    mixers, depths = MIXERS[family]
    weights = official_state_dict(mixers, depths)
    model = family(out_norm=None).eval()
    model.load_state_dict(weights)  # strict: every weight has its place, none is left
    x = torch.randn(1, 3, *((224, 224) if "r" in mixers else (97, 131)))
    for a, e in zip(model(x), official_features(weights, mixers, depths, x), strict=True):
        assert_close(a, e)


@pytest.mark.parametrize("features_only", [False, True])
def test_timm_weights_load(features_only, randomise):
    """A whole timm classifier (its head left out) and the underscored form of features_only."""
    weights = randomise(timm.create_model("caformer_s18", features_only=features_only)).state_dict()
    model = CAFormer(out_norm=None)
    model.load_state_dict(weights)  # strict
    for index, key in ((0, "token_mixer.pwconv2.weight"), (3, "mlp.fc2.weight")):
        stage = f"stages_{index}" if features_only else f"stages.{index}"
        theirs = weights[f"{stage}.blocks.1.{key}"].flatten()  # 2-D there in attention stages
        ours = model.get_parameter(f"stages.{index}.blocks.1.{key}")
        assert torch.equal(ours.flatten(), theirs)


def test_random_matrices_are_fixed_and_saved():
    model = RandFormer("s12")
    matrices = {n: p for n, p in model.named_parameters() if n.endswith("random_matrix")}
    assert sum(p.numel() for p in matrices.values()) == 235_298
    assert not any(p.requires_grad for p in matrices.values())
    assert set(matrices) <= set(model.state_dict())
    for matrix in matrices.values():
        assert torch.allclose(matrix.sum(-1), torch.ones(len(matrix)))
        assert matrix.min() > 0
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 11_377_688 + 2 * sum(DIMS)


def test_randformer_passes_its_policy_on():
    for settings, expected in ({}, "resample"), (dict(policy="window"), "window"):
        stages = RandFormer("s12", **settings).stages
        policies = {b.token_mixer.policy for stage in stages[2:] for b in stage.blocks}
        assert policies == {expected}


@pytest.mark.parametrize("family", MIXERS)
def test_published_parameters(family):
    """The tables count the classifier: a norm, then a linear layer or an MLP to 1000 classes."""
    for arch, variant in family.variants.items():
        with torch.device("meta"):
            body = sum(p.numel() for p in family(arch, out_norm=None).parameters())
        dim = variant.dims[-1]
        linear = 2 * dim + 1000 * dim + 1000
        mlp = 2 * dim + (4 * dim * dim + 4 * dim) + 2 * 4 * dim + (4000 * dim + 1000)
        convolutional = family in (ConvFormer, CAFormer)
        head = mlp if convolutional else linear
        assert abs((body + head) / 1e6 - variant.params) < (1 if convolutional else 0.1)


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


def test_all_are_in_the_catalog():
    assert set(MIXERS) <= set(families().values())
    assert isinstance(build_backbone("caformer_s18", out_indices=(0,)), CAFormer)
