"""From the text on a command line to a backbone's config, name and weights."""

from __future__ import annotations

import pytest

from mmplugins.backbones import PoolFormer
from mmplugins.engine import SettingError
from mmplugins.engine.config.backbone_choice import parse_backbone, published_weights, short_name

TINY = dict(type="PoolFormer", arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))


@pytest.mark.parametrize(
    "text",
    [
        "dict(type='PoolFormer', arch=dict(depths=[2, 2], dims=[1, -1]), with_cp=True)",
        "{'type': 'PoolFormer', 'arch': dict(depths=[2, 2], dims=[1, -1]), 'with_cp': True}",
        '{"type": "PoolFormer", "arch": {"depths": [2, 2], "dims": [1, -1]}, "with_cp": true}',
        "{type: PoolFormer, arch: {depths: [2, 2], dims: [1, -1]}, with_cp: true}",
    ],
)
def test_a_dict_as_text(text):
    arch = dict(depths=[2, 2], dims=[1, -1])
    assert parse_backbone(text) == dict(type="PoolFormer", arch=arch, with_cp=True)


@pytest.mark.parametrize(
    "text",
    [
        "dict(type=__import__('os').getcwd())",
        "dict(**{'type': 'A'})",
        "dict([('type', 'A')])",
        "{'type': open('x')}",
        "dict(type='A'",
        "{'arch': 's12'}",
        "{!!python/object/apply:os.getcwd []}",
        "{[1]: 2}",
    ],
)
def test_nothing_in_a_text_is_run(text):
    with pytest.raises(SettingError, match="expected a dict of plain values with a type"):
        parse_backbone(text)


def test_names_for_files():
    assert short_name("timm/resnet50") == "timm-resnet50"
    assert short_name("dict(type='mmdet.ResNet', depth=18)") == "resnet-18"
    assert short_name(TINY) == "poolformer"
    assert short_name(dict(type=PoolFormer, arch="s12")) == "poolformer-s12"


@pytest.mark.parametrize(
    ("backbone", "weights"),
    [
        (dict(type="CAFormer"), "metaformer://caformer_s18"),
        (dict(type=PoolFormer, arch="s12"), "metaformer://poolformer_s12"),
        (dict(type="ConvNeXt", arch="xlarge"), "metaformer://convnext_xlarge_in21k"),
        (dict(type="TimmBackbone", model_name="timm/resnet50.a1_in1k"), "timm://resnet50.a1_in1k"),
        (dict(type="ResNetV1c", depth=50), "open-mmlab://resnet50_v1c"),
        (dict(type="sMLPNet", arch="t"), None),
        (dict(type="ResNet", depth=50, style="caffe"), None),
        (TINY, None),
    ],
)
def test_published_weights(backbone, weights):
    assert published_weights(backbone) == weights
