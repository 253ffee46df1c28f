"""Conversions are exact both ways, and the code they are meant for reads them strictly."""

import itertools

import pytest
import torch
import written_layouts as written

from mmplugins.backbones import build_backbone
from mmplugins.checkpoint import CheckpointError, convert, find_weights

S12 = dict(depths=(2, 2, 6, 2), dims=(64, 128, 320, 512))
S18 = dict(depths=(3, 3, 9, 3), dims=(64, 128, 320, 512))
TINY = dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768))
SMLP = dict(depths=(2, 8, 14, 2), dims=(80, 160, 320, 640))


def mmpretrain_riformer(form):
    writer = written.poolformer_official(**S12, form="mmpretrain", mixer_of_block=form)
    state = {f"backbone.{key}": value for key, value in writer.state_dict.items()}
    return state | {"head.fc.weight": torch.randn(10, 512), "head.fc.bias": torch.ones(10)}


OFFICIAL = {
    "poolformer_s12": lambda: written.poolformer_official(**S12).state_dict,
    "poolformer_s12_ppaa": lambda: written.poolformer_official(**S12, mixers="ppaa").state_dict,
    "poolformer_s12_pppa": lambda: written.poolformer_official(**S12, mixers="pppa").state_dict,
    "poolformer_s12_ppff": lambda: written.poolformer_official(**S12, mixers="ppff").state_dict,
    "poolformerv2_s12": lambda: written.baselines_official("poolformerv2", **S12).state_dict,
    "randformer_s12": lambda: written.baselines_official("randformer", **S12).state_dict,
    "convformer_s18": lambda: written.baselines_official("convformer", **S18).state_dict,
    "caformer_s18": lambda: written.baselines_official("caformer", **S18).state_dict,
    "riformer_s12": lambda: mmpretrain_riformer("affine"),
    "smlpnet_t": lambda: written.smlpnet_official(**SMLP).state_dict,
    "convnext_tiny": lambda: written.convnext(**TINY).state_dict,
}
IN_TIMM = ("poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18", "convnext_tiny")


def noise(model):
    """A state dict for a model on the meta device."""
    return {
        key: torch.randn(value.shape) if value.is_floating_point() else torch.tensor(5)
        for key, value in model.state_dict().items()
    }


def on_meta(build, name, **settings):
    with torch.device("meta"):
        return build(name, **settings)


def to(tensors, layout):
    return convert(find_weights(tensors, "w.pth"), layout)


def assert_same(one, other):
    assert set(one) == set(other)
    for key, value in one.items():
        assert value.shape == other[key].shape and value.dtype == other[key].dtype, key
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("name", OFFICIAL)
def test_round_trip_from_official(name):
    official = OFFICIAL[name]()
    there = to(official, "mmplugins")
    assert name in (there.identity.backbone, *there.identity.same_as)
    assert there.left_out == []
    back = to(there.tensors, "official")
    assert_same(official, back.tensors)
    assert back.left_out == []
    # and what stands in the middle is the model's own
    model = on_meta(build_backbone, name)
    result = model.load_state_dict(there.tensors, strict=False, assign=True)
    assert all(key.startswith("out_norms.") for key in result.missing_keys)
    assert all(key.startswith("head.") for key in result.unexpected_keys)


@pytest.mark.parametrize("name", IN_TIMM)
def test_timm_reads_what_is_converted_to_it(name):
    import timm

    official = OFFICIAL[name]()
    timms = to(official, "timm")
    model = on_meta(timm.create_model, name, num_classes=written.CLASSES)
    model.load_state_dict(timms.tensors, strict=True, assign=True)
    assert_same(official, to(timms.tensors, "official").tensors)
    if "former" in name:  # timm's own rule for official files agrees
        from timm.models.metaformer import checkpoint_filter_fn

        assert_same(checkpoint_filter_fn(official, model), timms.tensors)


@pytest.mark.parametrize("name", ["poolformer_s12", "caformer_s18"])
def test_round_trip_from_timm(name):
    import timm

    timms = noise(on_meta(timm.create_model, name))
    for layout in ("official", "mmplugins"):
        assert_same(timms, to(to(timms, layout).tensors, "timm").tensors)


def test_precision_stays():
    official = {k: value.bfloat16() for k, value in OFFICIAL["poolformerv2_s12"]().items()}
    assert_same(official, to(to(official, "timm").tensors, "official").tensors)


def test_identity_conversions_change_nothing():
    official = OFFICIAL["poolformerv2_s12"]()
    assert_same(official, to(official, "official").tensors)
    ours = to(official, "mmplugins").tensors
    assert_same(ours, to(ours, "mmplugins").tensors)


def test_deployed_riformer_stays_deployed():
    official = mmpretrain_riformer("folded")
    back = to(to(official, "mmplugins").tensors, "official")
    assert_same(official, back.tensors)


def test_the_backbone_of_a_detector():
    ours = noise(on_meta(build_backbone, "caformer_s18"))
    state = {f"backbone.{key}": value for key, value in ours.items()}
    state |= {"neck.a.weight": torch.ones(2), "bbox_head.b.bias": torch.ones(2)}
    timms = to(dict(state_dict=state, meta={}), "timm")
    norms = [f"out_norms.{i}.{name}" for i, name in itertools.product(range(4), ("weight", "bias"))]
    assert sorted(timms.left_out) == sorted(["neck.a.weight", "bbox_head.b.bias", *norms])
    assert not any(key.startswith(("neck", "head", "out_norms")) for key in timms.tensors)
    # timm's names without a classifier, attention stages with linear layers, load again
    again = on_meta(build_backbone, "caformer_s18")
    again.load_state_dict(timms.tensors, strict=False, assign=True)
    key = "stages.2.blocks.0.mlp.fc1.weight"
    assert timms.tensors[key].ndim == 2
    assert torch.equal(again.state_dict()[key], ours[key])


def test_output_norms_of_dense_models_have_a_place_in_official_files():
    dense = written.poolformer_official(**S12, form="dense").state_dict
    assert_same(dense, to(to(dense, "mmplugins").tensors, "official").tensors)


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        ("randformer_s12", "timm", "timm has no randformer_s12"),
        ("smlpnet_t", "timm", "timm has no smlpnet_t"),
        ("poolformer_s12", "mmpretrain", "expected one of mmplugins, official, timm"),
    ],
)
def test_layouts_that_do_not_exist(name, layout, message):
    with pytest.raises(ValueError, match=message):
        to(OFFICIAL[name](), layout)


def test_parts_and_strangers_are_refused():
    official = OFFICIAL["poolformer_s12"]()
    del official["network.0.1.mlp.fc2.weight"]
    with pytest.raises(CheckpointError, match="resembles poolformer_s12 but lacks 1"):
        to(official, "timm")
    with pytest.raises(CheckpointError, match="no backbone of the suite"):
        to({"fc.weight": torch.ones(2, 2)}, "timm")
