"""Files of other families name them; files without values, or without all parts, say what to do."""

import pytest
import timm
import torch
from small_models import small

from mmplugins.backbones import TimmBackbone
from mmplugins.checkpoint import CheckpointError, MismatchError, check_tensors, load_weights
from mmplugins.checkpoint.causes import family_of_keys

FAMILIES = {
    "vit_tiny_patch16_224": "Vision Transformer",
    "vit_small_patch16_dinov3": "Vision Transformer with registers (DINOv2, DINOv3)",
    "swin_tiny_patch4_window7_224": "Swin Transformer",
    "convnextv2_atto": "ConvNeXt V2",
    "resnet18": "ResNet",
    "efficientnet_b0": "EfficientNet",
    "regnety_002": "RegNet",
    "densenet121": "DenseNet",
    "hrnet_w18_small": "HRNet",
    "vgg11": "VGG",
    "beit_base_patch16_224": "BEiT",
    "convnext_atto": "ConvNeXt",
    "mobilenetv3_small_050": "MobileNet",
    "test_efficientnet": "EfficientNet",
    "pvt_v2_b0": "PVT",
    "swiftformer_xs": "SwiftFormer",
    "tiny_vit_5m_224": "TinyViT",
    "test_coatnet": "CoAtNet",
}
HUGGING_FACE = {
    "encoder.stages.0.layers.0.layer.0.convolution.weight": "ResNet",
    "encoder.stages.0.layers.0.layer.2.attention.0.weight": "RegNet",
    "encoder.layers.0.blocks.0.attention.self.continuous_position_bias_mlp.0.weight": (
        "Swin Transformer"
    ),
    "encoder.stages.0.layers.0.dwconv.weight": "ConvNeXt",
    "layer.0.conv_3x3.convolution.weight": "MobileNet",
    "encoder.blocks.0.depthwise_conv.depthwise_conv.weight": "EfficientNet",
    "vision_model.encoder.layers.0.self_attn.q_proj.weight": "Vision Transformer",
    "stages.0.blocks.0.attention.sequence_reduction.sequence_reduction.weight": "SegFormer's MiT",
}


def keys_of(name):
    with torch.device("meta"):
        return list(timm.create_model(name).state_dict())


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_told_by_their_keys(name):
    assert family_of_keys(keys_of(name)) == FAMILIES[name]
    assert family_of_keys(f"backbone.{key}" for key in keys_of(name)) == FAMILIES[name]


@pytest.mark.parametrize("key", HUGGING_FACE)
def test_families_of_hugging_face(key):
    for keys in ([key], [key, "backbone.stem.weight"], [f"backbone.{key}"]):
        assert family_of_keys(keys) == HUGGING_FACE[key]


@pytest.mark.parametrize("family", ["PoolFormer", "CAFormer", "ConvNeXt"])
@pytest.mark.parametrize("wrapping", ["", "backbone."])
def test_the_error_names_the_family(family, wrapping, save):
    state = timm.create_model("resnet18").state_dict()
    path = save({f"{wrapping}{key}": value for key, value in state.items()})
    model = small(family)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(MismatchError, match=f"holds a ResNet, the model is a {family}"):
        load_weights(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_convnext_that_is_none_of_the_published(save):
    path = save(timm.create_model("test_convnext").state_dict())
    with pytest.raises(MismatchError, match="another ConvNeXt than the model's"):
        load_weights(small("ConvNeXt"), path)
    with pytest.raises(MismatchError, match="holds a ConvNeXt, the model is a PoolFormer"):
        load_weights(small("PoolFormer"), path)


def test_plain_models_start_their_pyramid_afresh(save):
    """The way of `--backbone timm/vit_...`: timm's own weights, which know no pyramid."""
    state = timm.create_model("test_vit").state_dict()
    report = load_weights(TimmBackbone("test_vit"), save(state))
    assert report.ok
    assert {key for key in report.absent if key.startswith("pyramid.")} == {
        f"pyramid.levels.{name}.{leaf}"
        for name in ("0.0", "0.1", "0.3", "1")
        for leaf in ("weight", "bias")
    }


def test_tensors_without_values(save):
    with torch.device("meta"):
        state = small("PoolFormer").state_dict()
    with pytest.raises(
        CheckpointError, match=r"meta device, which have shapes and no values.*save"
    ):
        check_tensors(state, "w.pth")
    with pytest.raises(CheckpointError, match="meta device"):
        load_weights(small("PoolFormer"), save(state))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_counters_of_norms_may_be_fractions_in_kind_but_not_in_value(kind, save):
    model = small("sMLPNet")
    state = {key: value.to(kind) for key, value in model.state_dict().items()}
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    assert counters
    load_weights(model, save(state))
    state[counters[0]] = torch.tensor(0.5, dtype=kind)
    with pytest.raises(MismatchError, match=counters[0].replace(".", r"\.")):
        load_weights(model, save(state))
