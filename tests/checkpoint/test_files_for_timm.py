"""Files for timm's models: in the names and prefixes of other code bases, and of other models."""

import pytest
import timm
import torch
import torchvision
from torchvision.models import convnext

from mmplugins.backbones import TimmBackbone
from mmplugins.checkpoint import CheckpointError, MismatchError, load_weights
from mmplugins.checkpoint.causes import family_of_keys

BESIDE = {"fpn.inner_blocks.0.0.weight": torch.ones(4, 4, 1, 1), "head.bias": torch.ones(3)}
PREFIXES = {
    "detectron2": ("backbone.bottom_up.", {"proposal_generator.anchor.weight": torch.ones(4)}),
    "torchvision's detectors": ("backbone.body.", {f"backbone.{k}": v for k, v in BESIDE.items()}),
    "mmdet": ("backbone.", {"neck.lateral.weight": torch.ones(4, 4, 1, 1)}),
    "lightly-train": ("student_embedding_model.wrapped_model._model.", {}),
}


STARTS = dict.fromkeys(("googlenet", "inception_v3"), dict(init_weights=False))


def state_of(name):
    state = timm.create_model(name).state_dict()
    return {k: torch.randn(v.shape) if v.is_floating_point() else v for k, v in state.items()}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_other_code_bases(prefix, save):
    state, (before, beside) = state_of("test_resnet"), PREFIXES[prefix]
    path = save(dict(model={f"{before}{key}": value for key, value in state.items()} | beside))
    model = TimmBackbone("test_resnet")
    report = load_weights(model, path)
    assert report.ok and report.prefix == before
    assert all(
        torch.equal(value, state[key.removeprefix("body.")])
        for key, value in model.state_dict().items()
    )


def test_our_own_file_keeps_pyramid_and_norms(save):
    model = TimmBackbone("test_vit", out_norm="LN")
    state = {f"backbone.{key}": torch.randn(v.shape) for key, v in model.state_dict().items()}
    report = load_weights(model, save(dict(state_dict=state | {"neck.a.bias": torch.ones(3)})))
    assert report.prefix == "backbone." and len(report.matched) == len(state)
    assert all(torch.equal(v, state[f"backbone.{key}"]) for key, v in model.state_dict().items())


def test_two_backbones_in_a_file_need_a_choice(save):
    state = state_of("test_resnet")
    two = {f"{who}.{key}": value for who in ("student", "mentor") for key, value in state.items()}
    with pytest.raises(CheckpointError, match="more than one backbone.*choose one with prefix="):
        load_weights(TimmBackbone("test_resnet"), save(two))
    assert load_weights(TimmBackbone("test_resnet"), save(two), prefix="mentor").ok


def test_torchvisions_convnext(save):
    """Features of torchvision's own forward pass."""
    dims = (16, 24, 32, 40)
    blocks = [convnext.CNBlockConfig(d, e, 1) for d, e in zip(dims, [*dims[1:], None], strict=True)]
    theirs = convnext.ConvNeXt(blocks).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = TimmBackbone("convnext_tiny", depths=(1, 1, 1, 1), dims=dims).eval()
    report = load_weights(model, save(theirs.state_dict()))
    assert report.ok and report.layout == "torchvision" and len(report.absent) == 4
    x, expected = torch.randn(1, 3, 64, 96), []
    with torch.no_grad():
        maps = model(x)
        for i, part in enumerate(theirs.features):
            x = part(x)
            expected += [x] if i % 2 else []
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max())


@pytest.mark.parametrize(
    ("file", "model", "message"),
    [
        ("mobilenet_v2", "efficientnet_b0", "holds a MobileNet, the model is timm's efficientnet_"),
        ("mobilenet_v2", "mobilenetv2_140", "another MobileNet than the model's, mobilenetv2_140"),
        ("efficientnet_b0", "mobilenetv2_100", "holds an EfficientNet, the model is timm's mobil"),
        ("resnet18", "efficientnet_b0", "holds a ResNet, the model is timm's efficientnet_b0"),
        ("resnet18", "resnet50", "another ResNet than the model's, resnet50"),
        ("convnext_tiny", "resnet18", "holds convnext_tiny, the model is timm's resnet18"),
    ],
)
def test_the_error_names_file_and_model(file, model, message, save):
    path = save(getattr(torchvision.models, file)().state_dict())
    with pytest.raises(MismatchError, match=message):
        load_weights(TimmBackbone(model), path)


@pytest.mark.parametrize(
    ("name", "family"),
    {
        "mobilenet_v2": "MobileNet",
        "mobilenet_v3_small": "MobileNet",
        "efficientnet_b0": "EfficientNet",
        "efficientnet_v2_s": "EfficientNet",
        "vit_b_16": "Vision Transformer",
        "alexnet": "AlexNet",
        "vgg16": "VGG",
        "squeezenet1_0": "SqueezeNet",
        "shufflenet_v2_x0_5": "ShuffleNet",
        "mnasnet0_5": "MNASNet",
        "googlenet": "GoogLeNet",
        "inception_v3": "Inception",
        "maxvit_t": "MaxViT",
        "swin_v2_t": "Swin Transformer",
        "regnet_y_400mf": "RegNet",
    }.items(),
)
def test_torchvisions_families(name, family):
    # Some draw their weights in a way that the meta device does not have.
    slow = name in ("googlenet", "inception_v3", "regnet_y_400mf")
    with torch.device("cpu" if slow else "meta"):
        keys = list(getattr(torchvision.models, name)(**STARTS.get(name, {})).state_dict())
    assert family_of_keys(keys) == family
    assert family_of_keys(f"backbone.{key}" for key in keys) == family
