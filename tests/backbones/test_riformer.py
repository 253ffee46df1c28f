"""RIFormer against its formula written out, its folding, and its foreign weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from written_layouts import poolformer_official

from mmplugins.backbones import PoolFormer, RIFormer

DEPTHS, DIMS = (2, 2, 6, 2), (64, 128, 320, 512)
TINY = dict(depths=(1, 1, 2, 1), dims=(16, 24, 32, 40))


@pytest.fixture
def mmpretrain(randomise):
    """Function that gives a classifier's weights in either form, which are the same function."""

    def mmpretrain(deployed: bool = False) -> dict[str, Tensor]:
        writer = poolformer_official(DEPTHS, DIMS, form="mmpretrain", mixer_of_block="affine")
        weights = randomise(writer.state_dict)
        for key in [key for key in weights if key.endswith("affine.weight")] if deployed else ():
            block = key.removesuffix("token_mixer.affine.weight")
            gamma, beta = (weights.pop(f"{block}norm1.{leaf}") for leaf in ("weight", "bias"))
            scale, shift = weights.pop(key).flatten(), weights.pop(key.replace("weight", "bias"))
            weights[f"{block}norm_reparam.weight"] = gamma * (scale - 1)
            weights[f"{block}norm_reparam.bias"] = beta * (scale - 1) + shift
        return weights

    return mmpretrain


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
def test_formula(size, deploy, mmpretrain, assert_close):
    weights = mmpretrain()
    model = RIFormer("s12", deploy=deploy, out_norm=None).eval()
    model.load_state_dict(weights)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    for out, expected in zip(model(x), riformer(weights, x), strict=True):
        assert_close(out, expected)


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
def test_both_forms_load_into_both(deploy, from_deployed, prefix, mmpretrain, assert_close):
    """Strictly, from a classifier's file, whose last norm is not the norm of an output."""
    weights = {f"{prefix}{k}": v for k, v in mmpretrain(from_deployed).items()}
    head = {"head.fc.weight": torch.ones(10, 512), "head.fc.bias": torch.ones(10)}
    model = RIFormer("s12", deploy=deploy).eval()
    missing, unexpected = model.load_state_dict(weights | head, strict=False)
    assert unexpected == []
    assert {key.split(".")[0] for key in missing} == {"out_norms"}
    assert (model.out_norms["3"].weight == 1).all()

    x = torch.randn(1, 3, 64, 96)
    expected = riformer(mmpretrain(), x)
    for norm, out, e in zip(model.out_norms.values(), model(x), expected, strict=True):
        assert_close(out, norm(e))


@torch.no_grad()
def test_own_forms(randomise, assert_close):
    """Ours, as written by state_dict: a trained file is folded; a folded one lacks the mixers."""
    trained, deployed = randomise(RIFormer(TINY)).eval(), RIFormer(TINY, deploy=True).eval()
    assert deployed.deployed and not trained.deployed
    deployed.load_state_dict(trained.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for out, e in zip(deployed(x), trained(x), strict=True):
        assert_close(out, e, rel=2e-6)
    assert trained.switch_to_deploy().deployed
    missing, unexpected = RIFormer(TINY).load_state_dict(deployed.state_dict(), strict=False)
    assert unexpected == []
    assert len(missing) == 2 * 5 and all(".token_mixer." in key for key in missing)


@pytest.mark.parametrize("arch", RIFormer.variants)
def test_deployed_it_is_as_large_as_poolformer(arch):
    with torch.device("meta"):
        models = RIFormer(arch, deploy=True), PoolFormer(arch)
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in models)
    assert ours == theirs
