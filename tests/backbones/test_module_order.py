"""torchvision's own models, and files named as EfficientNet-PyTorch names them, in timm's."""

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from mmplugins.backbones import TimmBackbone
from mmplugins.backbones.module_order import names_by_order, numbered_layout
from mmplugins.checkpoint import load_weights

PAIRS = {  # torchvision's name: timm's, and what it needs to compute alike
    "mobilenet_v2": ("mobilenetv2_100", {}),
    "mobilenet_v3_large": ("mobilenetv3_large_100", dict(bn_eps=1e-3)),
    "efficientnet_b0": ("efficientnet_b0", {}),
    "resnet18": ("resnet18", {}),
}


def features(model, x, taps):
    """Outputs of torchvision's feature modules after which the next has another stride."""
    maps = []
    for k, module in enumerate(model.features):
        x = module(x)
        if k in taps:
            maps.append(x)
    return maps


TAPS = {  # the last module of strides 4 to 32 whose map timm puts out
    "mobilenet_v2": (3, 6, 13, 17),
    "mobilenet_v3_large": (3, 6, 12, 16),
    "efficientnet_b0": (2, 3, 5, 7),
}


@torch.no_grad()
@pytest.mark.parametrize("name", PAIRS)
def test_files_of_torchvision(name, randomise, tmp_path, assert_close):
    """Also through safetensors, which sorts names and so loses the order of modules."""
    theirs = randomise(getattr(torchvision.models, name)()).eval()
    state = theirs.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    by_name = dict(sorted(load_file(tmp_path / "w.safetensors").items()))
    timm_name, settings = PAIRS[name]
    ours = TimmBackbone(timm_name, **settings).eval()
    x = torch.randn(1, 3, 97, 131)
    for weights in (state, by_name):
        ours.load_state_dict(weights)
        if name == "resnet18":
            own = {key.removeprefix("body."): value for key, value in ours.state_dict().items()}
            assert all(torch.equal(state[key], value) for key, value in own.items())
        else:
            for out, expected in zip(ours(x), features(theirs, x, TAPS[name]), strict=True):
                assert_close(out, expected)
        randomise(ours, seed=1)


@torch.no_grad()
def test_a_detector_of_torchvision_holds_its_backbone(randomise, tmp_path):
    """Below ``backbone.body``, where its features have their numbers alone."""
    whole = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None
    )
    features = randomise(torchvision.models.mobilenet_v3_large()).state_dict()
    inside = {k.removeprefix("features."): v for k, v in features.items() if "features." in k}
    whole.backbone.body.load_state_dict(inside)
    torch.save(whole.state_dict(), tmp_path / "detector.pth")
    ours, expected = TimmBackbone("mobilenetv3_large_100"), TimmBackbone("mobilenetv3_large_100")
    assert load_weights(ours, tmp_path / "detector.pth").ok
    expected.load_state_dict(features)
    state = ours.state_dict()
    assert all(torch.equal(state[key], value) for key, value in expected.state_dict().items())


def efficientnet_pytorch(timm_state):
    """The names that EfficientNet-PyTorch gives to the modules of timm's EfficientNet."""
    import re

    blocks = list(dict.fromkeys(re.findall(r"blocks\.\d+\.\d+(?=\.)", "\n".join(timm_state))))
    stages = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    separable = dict(conv_dw="_depthwise_conv", bn1="_bn1", conv_pw="_project_conv", bn2="_bn2")
    inverted = dict(conv_pw="_expand_conv", bn1="_bn0", conv_dw="_depthwise_conv", bn2="_bn1")
    inverted |= dict(conv_pwl="_project_conv", bn3="_bn2")
    renamed = {}
    for key, value in timm_state.items():
        match = re.match(r"(blocks\.\d+\.\d+)\.(\w+)\.(\w+)$", key)
        if match:
            place, part, leaf = match.groups()
            names = inverted if f"{place}.bn3.weight" in timm_state else separable
            renamed[f"_blocks.{blocks.index(place)}.{names[part]}.{leaf}"] = value
        else:
            part, leaf = key.rsplit(".", 1)
            renamed[f"{stages.get(part, '_fc')}.{leaf}"] = value
    return renamed


def test_files_of_efficientnet_pytorch(randomise):
    import timm

    whole = randomise(timm.create_model("efficientnet_lite0"))
    state = efficientnet_pytorch(whole.state_dict())
    assert numbered_layout(state) == "EfficientNet-PyTorch"
    model = TimmBackbone("efficientnet_lite0")
    model.load_state_dict(state)
    expected = whole.state_dict()
    for key, value in model.body.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_another_network_gets_no_names():
    with torch.device("meta"):
        small = torchvision.models.mobilenet_v3_small().state_dict()
    model = TimmBackbone("mobilenetv2_100")
    needed = [name for name, own in model.found.own_names.items() if own is not None]
    assert names_by_order(small, model.found.shapes, needed) == {}
    assert names_by_order(model.found.shapes, model.found.shapes, needed) == {}
