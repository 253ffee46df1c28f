"""Every class that stands for a batch norm folds alike, so that files pass between them."""

from __future__ import annotations

import copy

import mmcv.ops
import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmplugins.deployment import largest_difference, raw_outputs, reparameterize

SEGMENTOR = dict(
    type="mmseg.EncoderDecoder",
    backbone=dict(type="PoolFormer", arch=dict(depths=(1,) * 4, dims=(8, 16, 24, 32))),
    neck=dict(type="mmseg.FPN", in_channels=[8, 16, 24, 32], out_channels=16, num_outs=4),
    decode_head=dict(
        type="mmseg.FPNHead",
        in_channels=[16] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=16,
        num_classes=4,
        norm_cfg=dict(type="SyncBN"),
    ),
    test_cfg=dict(mode="whole"),
)
SMLP = dict(type="sMLPNet", arch=dict(depths=(1,) * 4, dims=(16, 32, 64, 128)), image_size=64)

KINDS = {
    "as built": lambda model: model,
    "reverted by mmengine": revert_sync_batchnorm,
    "torch's SyncBN": lambda model: convert_sync_batchnorm(model, "torch"),
    "mmcv's SyncBN": lambda model: convert_sync_batchnorm(model, "mmcv"),
    "mmcv's SyncBN reverted": lambda m: revert_sync_batchnorm(convert_sync_batchnorm(m, "mmcv")),
    "by torch itself": nn.SyncBatchNorm.convert_sync_batchnorm,
}


@pytest.fixture(scope="module", autouse=True)
def one_process(tmp_path_factory):
    """mmcv's SyncBN asks for the number of processes when it is built."""
    store = tmp_path_factory.mktemp("store") / "file"
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def built(config, randomise) -> nn.Module:
    torch.manual_seed(0)
    return randomise(MODELS.build(copy.deepcopy(config))).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", ["pooling", "sparse MLP"])
@torch.no_grad()
def test_one_file_for_all_kinds(kind, backbone, randomise):
    config = SEGMENTOR
    if backbone == "sparse MLP":  # with batch norms of its own
        neck = dict(SEGMENTOR["neck"], in_channels=[16, 32, 64, 128])
        config = dict(SEGMENTOR, backbone=SMLP, neck=neck)
    trained = revert_sync_batchnorm(built(config, randomise))
    image = torch.randn(1, 3, 64, 64)
    expected = raw_outputs(trained, image)

    model = KINDS[kind](built(config, randomise)).eval()
    names = {type(m).__name__ for m in model.modules() if "BatchNorm" in type(m).__name__}
    assert names, "the model has norms to fold"
    deployed = reparameterize(model).state_dict()
    head = [name for name in deployed if "running" in name and "backbone" not in name]
    assert not head, names
    loaded = reparameterize(revert_sync_batchnorm(built(config, randomise)))
    loaded.load_state_dict(deployed)
    assert largest_difference(raw_outputs(loaded, image), expected) < 1e-5


def test_a_norm_without_statistics_stays():
    for norm in (nn.SyncBatchNorm(4, track_running_stats=False), nn.InstanceNorm2d(4)):
        module = ConvModule(3, 4, 1, norm_cfg=dict(type="BN"))
        module.bn = norm
        stays = reparameterize(module.eval()).bn
        assert isinstance(stays, nn.InstanceNorm2d | _BatchNorm) and stays.running_var is None


def test_mmcvs_own_is_among_the_kinds():
    converted = convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(4)), "mmcv")
    assert type(converted[0]) is mmcv.ops.SyncBatchNorm
