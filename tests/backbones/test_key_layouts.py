"""Renaming of foreign weights, and the layouts of all families."""

from __future__ import annotations

import copy

import pytest
import torch

from mmplugins.backbones.catalog import families
from mmplugins.backbones.key_layouts import KeyLayout, find_layout, from_native, rename, to_native

TOY = KeyLayout(
    "toy",
    r"body\.0\.",
    lambda depths: [("stem", "body.0"), ("stem.scale", "body.0.gamma"), ("stages.0", "body.1")],
)
FAMILIES_AND_LAYOUTS = [
    pytest.param(cls, layout, id=f"{name}-{layout.name}")
    for name, cls in families().items()
    for layout in cls.layouts
]


def test_longest_whole_prefix_counts():
    pairs = {"a": "x", "a.b": "y", "a.1": "z"}
    assert rename("a.weight", pairs) == "x.weight"
    assert rename("a.b.weight", pairs) == "y.weight"
    assert rename("a.b", pairs) == "y"
    assert rename("a.10.weight", pairs) == "x.10.weight"
    assert rename("ab.weight", pairs) is None


def test_to_native():
    weights = {
        "body.0.weight": torch.ones(4, 3),
        "body.0.gamma": torch.ones(4),
        "body.1.weight": torch.ones(2),
        "unknown": torch.ones(1),
        "head.weight": torch.ones(5),
        "norm.bias": torch.ones(5),
    }
    shapes = {"stem.weight": torch.Size([4, 3, 1, 1])}
    renamed = to_native(weights, [TOY], (1,), shapes)
    assert list(renamed) == ["stem.weight", "stem.scale", "stages.0.weight", "unknown"]
    assert renamed["stem.weight"].shape == (4, 3, 1, 1)


def test_native_weights_are_left_alone():
    weights = {"stem.weight": torch.ones(4, 3)}
    assert find_layout(weights, [TOY]) is None
    assert to_native(weights, [TOY], (1,), {"stem.weight": torch.Size([4, 3])}) is weights


def test_native_names_with_linear_weights():
    weights = {"stem.weight": torch.ones(4, 3)}
    renamed = to_native(weights, [TOY], (1,), {"stem.weight": torch.Size([4, 3, 1, 1])})
    assert renamed["stem.weight"].shape == (4, 3, 1, 1)


def test_a_whole_model_gives_its_backbone():
    weights = {"backbone.body.0.weight": torch.ones(1), "neck.body.0.weight": torch.zeros(1)}
    assert to_native(weights, [TOY], (1,), {}) == {"stem.weight": torch.ones(1)}


def test_shapes_that_really_differ_are_left_to_the_loader():
    renamed = to_native({"body.0.weight": torch.ones(4, 3)}, [TOY], (1,), {"stem.weight": (3, 4)})
    assert renamed["stem.weight"].shape == (4, 3)


def small(cls, settings=None, **kwargs):
    """A model whose stages differ in depth, so that wrong indices show."""
    return cls(arch=dict(depths=(1, 2, 3, 1), dims=(32, 32, 32, 32), **(settings or {})), **kwargs)


@pytest.mark.parametrize("cls", families().values())
def test_every_family_states_its_layouts_and_recognises_none_in_our_names(cls):
    assert cls.layouts
    assert find_layout(small(cls).state_dict(), cls.layouts) is None


@pytest.mark.parametrize(("cls", "layout"), FAMILIES_AND_LAYOUTS)
def test_layout_is_one_to_one(cls, layout):
    pairs = list(layout.pairs((1, 2, 3, 1)))
    ours, theirs = zip(*pairs, strict=True) if pairs else ((), ())
    assert len(set(theirs)) == len(theirs)
    # DINOv3's authors keep one norm under two names.
    twice = {name for name in ours if ours.count(name) > 1}
    assert twice == ({"out_norms.3"} if layout.name == "official, DINOv3" else set())


def model_known_by(cls, layout):
    """A model of the family whose foreign weights show the marker of the layout, and those."""
    hybrids = [dict(v.settings) for v in cls.variants.values() if "token_mixers" in v.settings]
    for settings in ({}, *hybrids):
        alone = dict(out_norm=(None, None, None, "LN"))  # as DINOv3
        # Dense layouts are known by their output norms.
        for kwargs in (dict(out_norm=None), alone, {}):
            model = small(cls, settings, **kwargs)
            foreign = from_native(model.state_dict(), layout, model.depths)
            bare = foreign | {"head.fc.weight": torch.zeros(10, 32)}  # a classifier's weights
            for weights in (foreign, bare):
                keys = [key.removeprefix(layout.prefix) for key in weights]
                if find_layout(keys, cls.layouts) is layout:
                    return model, set(weights) - set(foreign)
    raise AssertionError(f"no model of {cls.__name__} writes weights known as {layout}")


@pytest.mark.parametrize(("cls", "layout"), FAMILIES_AND_LAYOUTS)
def test_our_weights_survive_the_way_out_and_back(cls, layout, randomise):
    """Written in the foreign names, recognised by them, and loaded strictly into another model."""
    model, classifier = model_known_by(cls, layout)
    loaded = randomise(copy.deepcopy(model), seed=1)
    foreign = from_native(randomise(model).state_dict(), layout, model.depths)
    foreign |= {key: torch.zeros(10, 32) for key in classifier}
    loaded.load_state_dict(foreign)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
