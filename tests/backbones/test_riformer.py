"""RIFormer against its formula written out, its folding, and its foreign weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.backbones import MetaFormer, PoolFormer, RIFormer

DEPTHS, DIMS = (2, 2, 6, 2), (64, 128, 320, 512)
TINY = dict(depths=(1, 1, 2, 1), dims=(16, 24, 32, 40))


def mmpretrain_state_dict(deployed: bool = False, depths=DEPTHS, dims=DIMS) -> dict[str, Tensor]:
    """A classifier's random weights under mmpretrain's names; the prefix ``backbone.`` is left out.

    Both forms come from the same random numbers and are the same function.
    """
    random = torch.Generator().manual_seed(0)

    def normal(*shape, mean=0.0):
        std = torch.Size(shape[1:]).numel() ** -0.5 if len(shape) > 1 else 0.2
        return torch.randn(shape, generator=random) * std + mean

    out = {"patch_embed.proj.weight": normal(dims[0], 3, 7, 7)}
    out["patch_embed.proj.bias"] = normal(dims[0])
    for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        if i:
            out[f"network.{2 * i - 1}.proj.weight"] = normal(dim, dims[i - 1], 3, 3)
            out[f"network.{2 * i - 1}.proj.bias"] = normal(dim)
        for j in range(depth):
            at = f"network.{2 * i}.{j}"
            gamma, beta = normal(dim, mean=1), normal(dim)
            scale, shift = normal(dim, mean=-0.5), normal(dim)
            if deployed:
                out[f"{at}.norm_reparam.weight"] = gamma * (scale - 1)
                out[f"{at}.norm_reparam.bias"] = beta * (scale - 1) + shift
            else:
                out[f"{at}.norm1.weight"], out[f"{at}.norm1.bias"] = gamma, beta
                out[f"{at}.token_mixer.affine.weight"] = scale.reshape(dim, 1, 1, 1)
                out[f"{at}.token_mixer.affine.bias"] = shift
            out[f"{at}.norm2.weight"], out[f"{at}.norm2.bias"] = normal(dim, mean=1), normal(dim)
            out[f"{at}.mlp.fc1.weight"] = normal(4 * dim, dim, 1, 1)
            out[f"{at}.mlp.fc1.bias"] = normal(4 * dim)
            out[f"{at}.mlp.fc2.weight"] = normal(dim, 4 * dim, 1, 1)
            out[f"{at}.mlp.fc2.bias"] = normal(dim)
            out[f"{at}.layer_scale_1"] = normal(dim, mean=1)
            out[f"{at}.layer_scale_2"] = normal(dim, mean=1)
    return out


def classifier() -> dict[str, Tensor]:
    return {
        "norm6.weight": torch.full((512,), 7.0),
        "norm6.bias": torch.full((512,), 7.0),
        "head.fc.weight": torch.ones(10, 512),
        "head.fc.bias": torch.ones(10),
    }


def riformer(weights: dict[str, Tensor], x: Tensor, depths=DEPTHS) -> list[Tensor]:
    """The published forward pass in training form: s * N(x) + t - N(x) as the token mixer."""
    outs = []
    x = F.conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], 4, 2)
    for i, depth in enumerate(depths):
        if i:
            at = f"network.{2 * i - 1}.proj"
            x = F.conv2d(x, weights[f"{at}.weight"], weights[f"{at}.bias"], 2, 1)
        for j in range(depth):
            block = f"network.{2 * i}.{j}."
            w = {k.removeprefix(block): v for k, v in weights.items() if k.startswith(block)}
            n = F.group_norm(x, 1, w["norm1.weight"], w["norm1.bias"], 1e-5)
            affine = F.conv2d(
                n, w["token_mixer.affine.weight"], w["token_mixer.affine.bias"], groups=n.shape[1]
            )
            x = x + w["layer_scale_1"].view(-1, 1, 1) * (affine - n)
            n = F.group_norm(x, 1, w["norm2.weight"], w["norm2.bias"], 1e-5)
            n = F.gelu(F.conv2d(n, w["mlp.fc1.weight"], w["mlp.fc1.bias"]))
            n = F.conv2d(n, w["mlp.fc2.weight"], w["mlp.fc2.bias"])
            x = x + w["layer_scale_2"].view(-1, 1, 1) * n
        outs.append(x)
    return outs


@torch.no_grad()
@pytest.mark.parametrize("size", [(97, 131), (33, 64)])
@pytest.mark.parametrize("deploy", [False, True])
def test_formula(size, deploy, assert_close):
    weights = mmpretrain_state_dict()
    model = RIFormer("s12", deploy=deploy, out_norm=None).eval()
    model.load_state_dict(weights)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    for out, expected in zip(model(x), riformer(weights, x), strict=True):
        assert_close(out, expected)


@torch.no_grad()
def test_deployed_form_is_the_trained_form(randomise, assert_close):
    model = randomise(RIFormer("s12")).eval()
    x = torch.randn(2, 3, 97, 131)
    expected = model(x)
    keys = set(model.state_dict())
    assert not model.deployed
    assert model.switch_to_deploy() is model
    assert model.deployed
    gone = keys - set(model.state_dict())
    assert gone >= {k for k in keys if ".token_mixer." in k}
    for out, e in zip(model(x), expected, strict=True):
        assert_close(out, e, rel=2e-6)
    folded = {key: value.clone() for key, value in model.state_dict().items()}
    model.switch_to_deploy()
    assert all(torch.equal(value, folded[key]) for key, value in model.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("norm", ["LN", "BN", dict(type="GN1", bias=False)])
def test_fold_holds_for_other_norms(norm, randomise, assert_close):
    model = randomise(MetaFormer(**TINY, token_mixers="Affine", norm1=norm)).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    count = len(model.state_dict())
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert_close(out, e, rel=2e-6)
    assert len(model.state_dict()) < count


@torch.no_grad()
def test_without_a_norm_the_mixer_stays(randomise, assert_close):
    model = randomise(MetaFormer(**TINY, token_mixers="Affine", norm1=None)).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert_close(out, e, rel=2e-6)
    assert any(type(module).__name__ == "Affine" for module in model.modules())


def test_start_is_minus_identity():
    torch.manual_seed(0)
    mixer = RIFormer("s12").stages[0].blocks[0].token_mixer
    x = torch.randn(1, 64, 5, 5)
    torch.testing.assert_close(mixer(x), -x, atol=0.25, rtol=0)
    assert not torch.equal(mixer(x), -x)


@torch.no_grad()
@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.parametrize("from_deployed", [False, True])
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_both_forms_load_into_both(deploy, from_deployed, prefix, assert_close):
    """Strictly, from a classifier's file, whose last norm is not the norm of an output."""
    weights = {f"{prefix}{k}": v for k, v in mmpretrain_state_dict(from_deployed).items()}
    head = {f"{'' if k.startswith('head') else prefix}{k}": v for k, v in classifier().items()}
    model = RIFormer("s12", deploy=deploy).eval()
    missing, unexpected = model.load_state_dict(weights | head, strict=False)
    assert unexpected == []
    assert {key.split(".")[0] for key in missing} == {"out_norms"}
    assert (model.out_norms["3"].weight == 1).all()

    x = torch.randn(1, 3, 64, 96)
    expected = riformer(mmpretrain_state_dict(), x)
    for norm, out, e in zip(model.out_norms.values(), model(x), expected, strict=True):
        assert_close(out, norm(e))


def test_dense_file_keeps_its_output_norms():
    weights = mmpretrain_state_dict()
    for i, dim in enumerate(DIMS):
        weights[f"norm{2 * i}.weight"] = torch.full((dim,), 2.0 + i)
        weights[f"norm{2 * i}.bias"] = torch.zeros(dim)
    model = RIFormer("s12")
    model.load_state_dict({f"backbone.{k}": v for k, v in weights.items()})
    assert [norm.weight[0].item() for norm in model.out_norms.values()] == [2, 3, 4, 5]


@torch.no_grad()
def test_own_forms(randomise, assert_close):
    """Ours, as written by state_dict: a trained file is folded; a folded one lacks the mixers."""
    trained, deployed = randomise(RIFormer(TINY)).eval(), RIFormer(TINY, deploy=True).eval()
    deployed.load_state_dict(trained.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for out, e in zip(deployed(x), trained(x), strict=True):
        assert_close(out, e, rel=2e-6)
    missing, unexpected = RIFormer(TINY).load_state_dict(deployed.state_dict(), strict=False)
    assert unexpected == []
    assert len(missing) == 2 * 5 and all(".token_mixer." in key for key in missing)


@torch.no_grad()
def test_poolformer_starts_a_student(randomise):
    teacher = randomise(PoolFormer(TINY))
    student = RIFormer(TINY)
    missing, unexpected = student.load_state_dict(teacher.state_dict(), strict=False)
    assert unexpected == []
    assert len(missing) == 2 * 5 and all(".token_mixer." in key for key in missing)
    own = student.state_dict()
    assert all(torch.equal(own[key], value) for key, value in teacher.state_dict().items())


@pytest.mark.parametrize("arch", RIFormer.variants)
def test_deployed_it_is_as_large_as_poolformer(arch):
    with torch.device("meta"):
        models = RIFormer(arch, deploy=True), PoolFormer(arch)
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in models)
    assert ours == theirs
