"""timm's norms with an activation keep it when mmengine exchanges them for synchronized ones."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from timm.layers import BatchNormAct2d
from timm.layers import convert_sync_batchnorm as timms_convert
from torch import nn

import mmplugins  # noqa: F401  (puts the patches in force)
from mmplugins.deployment import reparameterize


def _filled(model: nn.Module) -> nn.Module:
    for module in model.modules():  # statistics that matter
        if getattr(module, "running_var", None) is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.parametrize("name", ["dla34", "regnetz_005", "cspresnet50"])
def test_there_and_back_is_the_same_model(name):
    torch.manual_seed(0)
    model = _filled(timm.create_model(name, features_only=True))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    there = convert_sync_batchnorm(copy.deepcopy(model)).eval()
    assert any(isinstance(m, nn.SyncBatchNorm) for m in there.modules())
    back = revert_sync_batchnorm(copy.deepcopy(there)).eval()
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in back.modules())
    with torch.no_grad():
        for other in (there, back):  # in eval mode, SyncBatchNorm needs no other process
            torch.testing.assert_close(other(image), before)
        torch.testing.assert_close(reparameterize(there)(image), before, rtol=1e-3, atol=1e-3)
    assert weights.keys() == back.state_dict().keys()


def test_what_timm_converts_comes_back_whole():
    norm = _filled(BatchNormAct2d(4, act_layer=nn.SiLU, drop_layer=nn.Identity))
    x = torch.randn(2, 4, 3, 3)
    before = norm(x)
    back = revert_sync_batchnorm(timms_convert(norm)).eval()
    torch.testing.assert_close(back(x), before)
    assert isinstance(back.act, nn.SiLU)


def test_a_plain_norm_is_exchanged_as_before():
    norm = convert_sync_batchnorm(nn.BatchNorm2d(4))
    assert type(norm) is nn.SyncBatchNorm
