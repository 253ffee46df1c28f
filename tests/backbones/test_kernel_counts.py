"""Speed as a count: kernels of one pass, at most timm's. A GPU waits for their calls."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from mmplugins.backbones import build_backbone
from mmplugins.benchmark.kernels import inference_kernels as inference
from mmplugins.benchmark.kernels import training_kernels as training

FOLDED = {  # kernels of the folded model, as a share of timm's
    "poolformer_s12": 0.83,
    "poolformerv2_s12": 0.91,
    "convformer_s18": 0.79,
    "caformer_s18": 0.84,
    "convnext_tiny": 0.87,
}
IN_ANOTHER = "convformer_s18"  # the blocks of CAFormer's first two stages
SHARE_TIMM = [pytest.param(n, marks=pytest.mark.slow) if n == IN_ANOTHER else n for n in FOLDED]


@pytest.fixture(params=SHARE_TIMM)
def pair(request):
    """The name, ours and timm's, in bfloat16."""
    ours = build_backbone(request.param, out_norm=None, drop_path_rate=0.1)
    theirs = timm.create_model(request.param, features_only=True, drop_path_rate=0.1)
    return request.param, *(model.to(torch.bfloat16).eval() for model in (ours, theirs))


@pytest.mark.parametrize(
    "memory_format",
    [torch.contiguous_format, pytest.param(torch.channels_last, marks=pytest.mark.slow)],
)
def test_kernels_of_a_pass(pair, memory_format):
    name, ours, theirs = pair
    x = torch.randn(2, 3, 64, 64, dtype=torch.bfloat16).contiguous(memory_format=memory_format)
    allowed = inference(theirs, x)
    found = inference(ours, x)
    assert found.total() <= allowed.total(), found - allowed
    folded = inference(copy.deepcopy(ours).switch_to_deploy(), x)
    assert folded.total() <= FOLDED[name] * allowed.total(), folded
    allowed, found = training(theirs, x), training(ours, x)
    assert found.total() <= allowed.total(), found - allowed


@pytest.mark.parametrize("name", ["caformer_s18", "convnext_tiny"])
def test_no_gradient_is_laid_out_anew_at_each_product(name):
    """A mean, or a head that is not channels-last, gives gradients that lie otherwise."""
    model = build_backbone(name, out_norm=None, drop_path_rate=0.0)
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    theirs = timm.create_model(name, features_only=True)
    assert training(model, x)["clone"] <= training(theirs, x)["clone"]


@pytest.mark.parametrize("name", ["riformer_s12", "identityformer_s12", "randformer_s12"])
def test_kernels_of_families_that_timm_lacks(name):
    """Beside PoolFormer's of the same generation: their token mixers do less, or one product."""
    like = "poolformer_s12" if name == "riformer_s12" else "poolformerv2_s12"
    x = torch.randn(2, 3, 224, 224)
    counts = [inference(build_backbone(n, out_norm=None).eval(), x) for n in (name, like)]
    assert counts[0].total() <= counts[1].total(), counts[0] - counts[1]
