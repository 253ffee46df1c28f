"""Finer last maps, with the weights as they are: strides 8 and 16 for every family."""

from __future__ import annotations

import pytest
import timm
import torch
from small_backbones import build

from mmplugins import build_backbone, list_backbones
from mmplugins.backbones import CAFormer, ConvFormer, ConvNeXt, MetaFormer, PoolFormer

SMALL = dict(depths=(1, 2, 2, 1), dims=(8, 16, 24, 32))
FIRST = {name.split("_")[0]: name for name in reversed(list_backbones())}


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", FIRST.values())
@torch.no_grad()
def test_every_family(name, stride):
    plain = build(name).eval()
    fine = build(name, output_stride=stride).eval()
    assert {k: v.shape for k, v in fine.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    fine.load_state_dict(plain.state_dict())
    expected = tuple(min(s, stride) for s in (4, 8, 16, 32))
    assert fine.out_strides == expected
    assert [info["reduction"] for info in fine.feature_info] == list(expected)
    maps = fine(torch.randn(1, 3, 64, 96))
    sizes = [(-(-64 // s), -(-96 // s)) for s in expected]
    assert [tuple(x.shape[-2:]) for x in maps] == sizes


@pytest.mark.parametrize("stride", [8, 16])
@torch.no_grad()
def test_every_second_position_is_as_before(stride):
    """Where all mixing is by convolution and norms look at one position, nothing else changes."""
    torch.manual_seed(0)
    norm = dict(type="LN", bias=False, eps=1e-6)
    settings = dict(**SMALL, token_mixers="SepConv", norm1=norm)
    plain, fine = MetaFormer(**settings), MetaFormer(**settings, output_stride=stride)
    fine.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 128, 192)
    for x, y, s in zip(plain.eval()(image), fine.eval()(image), (4, 8, 16, 32), strict=True):
        step = max(s // stride, 1)
        torch.testing.assert_close(y[..., ::step, ::step], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [8, 16])
@torch.no_grad()
def test_convnext_is_timms(stride):
    theirs = timm.create_model(
        "convnext_atto", conv_mlp=False, use_grn=False, output_stride=stride, features_only=True
    ).eval()
    info = theirs.feature_info.channels()
    depths = [len(theirs[f"stages_{i}"].blocks) for i in range(4)]
    ours = ConvNeXt(dict(depths=depths, dims=info), out_norm=None, output_stride=stride).eval()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 96, 160)
    for x, y in zip(ours(image), theirs(image), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
@torch.no_grad()
def test_timms_own(name, stride):
    torch.manual_seed(0)
    theirs = timm.create_model(name, output_stride=stride, features_only=True).eval()
    skipped = theirs.feature_info.reduction().count(2)
    ours = build_backbone(f"timm/{name}", output_stride=stride).eval()
    assert ours.out_strides == tuple(theirs.feature_info.reduction()[skipped:])
    assert set(ours.out_strides) == {4, 8, stride}
    plain = build_backbone(f"timm/{name}").eval()
    ours.load_state_dict(plain.state_dict())
    theirs.load_state_dict(ours.body.state_dict(), strict=False)
    image = torch.randn(1, 3, 97, 131)
    for x, y in zip(ours(image), theirs(image)[skipped:], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["poolformer_s12", "swin_tiny_patch4_window7_224", "test_vit"])
def test_timm_models_without_it(name):
    assert build_backbone(f"timm/{name}", output_stride=32).out_strides == (4, 8, 16, 32)
    with pytest.raises(ValueError, match=f"'{name}' has no output_stride=8.*leave it out"):
        build_backbone(f"timm/{name}", output_stride=8)


@pytest.mark.parametrize("family", [PoolFormer, ConvFormer, CAFormer])
@torch.no_grad()
def test_deployed_alike(family):
    torch.manual_seed(0)
    dims = (32, 32, 64, 64)  # whole attention heads
    model = family(dict(depths=(1, 1, 1, 1), dims=dims), output_stride=8).eval()
    image = torch.randn(1, 3, 64, 64)
    expected = model(image)
    for x, y in zip(model.switch_to_deploy()(image), expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [4, 12, 64, None])
def test_other_strides_are_refused(stride):
    with pytest.raises(ValueError, match="output_stride=.*expected 8, 16 or 32"):
        PoolFormer(SMALL, output_stride=stride)
    with pytest.raises(ValueError, match="output_stride=.*expected 8, 16 or 32"):
        build_backbone("timm/resnet18", output_stride=stride)
