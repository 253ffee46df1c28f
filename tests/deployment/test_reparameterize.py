"""Whole detectors and segmentors in deployed form."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import timm
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmplugins.deployment import largest_difference, raw_outputs, reparameterize
from mmplugins.engine import load_composed

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = dict(type="PoolFormer", arch=dict(depths=(1, 1, 1, 1), dims=(16, 24, 32, 40)))
RESNET = dict(type="ResNet", depth=18, norm_eval=True)
CASES = {
    "retinanet": ("retinanet/retinanet_1x_coco.py", TINY),
    "retinanet resnet": ("retinanet/retinanet_1x_coco.py", RESNET),
    "mask_rcnn": ("mask_rcnn/mask-rcnn_1x_coco.py", TINY),
    "cascade_mask_rcnn resnet": ("cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py", RESNET),
    "semantic_fpn": ("semantic_fpn/semantic-fpn_40k_ade20k.py", TINY),
    "upernet resnet": ("upernet/upernet_160k_ade20k-640x640.py", RESNET),
}


def build(case: str) -> nn.Module:
    config, backbone = CASES[case]
    cfg = load_composed(str(CONFIGS / config), str(backbone), None)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop("init_cfg", None)
    boxes = cfg.model.get("roi_head", {}).get("bbox_head", [])
    for head in boxes if isinstance(boxes, list) else [boxes]:
        head.fc_out_channels = 32  # most of the weights, and all alike
    for name in ("decode_head", "auxiliary_head"):
        if name in cfg.model:
            cfg.model[name].channels = 32
    return MODELS.build(cfg.model)


@pytest.fixture(params=CASES)
def model(request, randomise) -> nn.Module:
    return randomise(build(request.param)).eval()


@torch.no_grad()
def test_equal_to_the_trained_form(model):
    image = torch.randn(1, 3, 97, 131)
    expected = raw_outputs(model, image)
    trained = copy.deepcopy(model.state_dict())
    assert reparameterize(model) is model
    assert largest_difference(raw_outputs(model, image), expected) < 1e-5
    assert not any(isinstance(module, _BatchNorm) for module in model.modules())

    deployed = {key: value.clone() for key, value in model.state_dict().items()}
    reparameterize(model)
    assert all(torch.equal(value, deployed[key]) for key, value in model.state_dict().items())

    model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    for weights in (deployed, trained):
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
        model.load_state_dict(weights)
        assert largest_difference(raw_outputs(model, image), expected) < 1e-5


def test_refused_in_training():
    with pytest.raises(RuntimeError, match=r"training mode.*eval\(\)"):
        reparameterize(build("semantic_fpn").train())


@torch.no_grad()
def test_convolution_shared_between_norms(randomise):
    """As in heads that share convolutions between levels, and not their norms."""
    settings = dict(norm_cfg=dict(type="BN"), act_cfg=dict(type="ReLU"))
    levels = nn.ModuleList(ConvModule(8, 8, 3, padding=1, **settings) for _ in range(2))
    levels[1].conv = levels[0].conv
    model = randomise(levels).eval()
    x = torch.randn(1, 8, 9, 11)
    expected = [level(x) for level in model]
    reparameterize(model)
    for level, e in zip(model, expected, strict=True):
        torch.testing.assert_close(level(x), e, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("order", [("norm", "conv", "act"), ("conv", "act", "norm")])
def test_other_orders_are_left_alone(order, randomise):
    model = nn.Sequential(ConvModule(8, 8, 1, norm_cfg=dict(type="BN"), order=order))
    model = randomise(model).eval()
    x = torch.randn(1, 8, 9, 11)
    expected = model(x)
    torch.testing.assert_close(reparameterize(model)(x), expected, rtol=1e-5, atol=1e-5)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 1


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["resnet18", "test_efficientnet", "densenet121", "resnetv2_50x1_bit"]
)
def test_models_of_timm(name, randomise):
    model = randomise(timm.create_model(name)).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = [model(x)]
    if name != "resnetv2_50x1_bit":  # whose convolutions standardise their weights
        assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    reparameterize(model)
    assert largest_difference([model(x)], expected) < 1e-5
