import pytest
import torch

from mmplugins.backbones.poolformer import PoolFormer
from mmplugins.checkpoint import CheckpointError, find_weights
from mmplugins.checkpoint.payload import dataset_names, find_prefixes, unwrapped

ONE, TWO = {"a.b": torch.ones(1)}, {"a.b": torch.zeros(1)}


@pytest.mark.parametrize(
    ("content", "payload"),
    [
        (ONE, ""),
        (dict(state_dict=ONE), "state_dict"),
        (dict(model=ONE, optimizer={}, epoch=1), "model"),
        (dict(model=TWO, model_ema=ONE), "model_ema"),
        (dict(state_dict=TWO, state_dict_ema=ONE), "state_dict_ema"),
        (dict(state_dict=ONE, ema_state_dict=TWO), "state_dict"),
        (dict(ema_state_dict={"module.a.b": ONE["a.b"], "steps": torch.tensor(1)}), None),
        (dict(model=dict(state_dict=ONE)), "model.state_dict"),
        (dict(model=TWO, ema=dict(module=ONE, updates=3)), "ema.module"),
        (dict(weights=ONE, epoch=1, args={}), "weights"),
        (dict(checkpoint=dict(model=ONE), optimizer=dict(state={0: dict(sum=TWO["a.b"])})),
         "checkpoint.model"),
    ],
)  # fmt: skip
def test_payload(content, payload):
    weights = find_weights(content, "w.pth")
    assert list(weights.tensors) == ["a.b"]
    assert torch.equal(weights.tensors["a.b"], ONE["a.b"])
    assert weights.payload == ("ema_state_dict" if payload is None else payload)


def test_what_is_no_weight_is_left_out():
    weights = find_weights(ONE | dict(epoch=3, ema_a_b=torch.zeros(1)), "w.pth")
    assert list(weights.tensors) == ["a.b"]


@pytest.mark.parametrize(
    "content",
    [
        {},
        dict(epoch=3, args={}),
        dict(state_dict={}),
        dict(params=ONE, params_ema=TWO),  # whose names do not tell which
        dict(optimizer=dict(state={0: dict(exp_avg=torch.ones(1))}, param_groups=[])),
    ],
)
def test_no_weights_at_all(content):
    with pytest.raises(CheckpointError, match="w.pth holds no state dict"):
        find_weights(content, "w.pth")


def test_wrappers_fall_away_wherever_they_stand():
    assert unwrapped("module.a.weight") == "a.weight"
    assert unwrapped("module.module._orig_mod.a.b") == "a.b"
    assert unwrapped("backbone._orig_mod.stem.bias") == "backbone.stem.bias"
    assert unwrapped("my_module.a") == "my_module.a"


def test_prefixes():
    keys = [f"network.0.{j}.mlp.fc1.weight" for j in range(4)] + ["patch_embed.proj.weight"]
    assert find_prefixes(keys, PoolFormer.layouts) == [""]
    two = [f"{who}.backbone.{key}" for who in ("student", "teacher") for key in keys]
    others = ["student.neck.stem.conv.weight", "student.head.fc.weight", "log_scale"]
    assert sorted(find_prefixes(two + others, PoolFormer.layouts)) == [
        "student.backbone.",
        "teacher.backbone.",
    ]
    assert find_prefixes(["layer1.0.conv1.weight"], PoolFormer.layouts) == []


@pytest.mark.parametrize(
    "meta",
    [
        dict(dataset_meta=dict(classes=("a", "b"), palette=[(1, 2, 3), [4, 5, 6]])),
        dict(dataset_meta=dict(CLASSES=("a", "b"), PALETTE=[(1, 2, 3), [4, 5, 6]], more=1)),
        dict(CLASSES=("a", "b"), PALETTE=[(1, 2, 3), [4, 5, 6]]),
    ],
)
def test_names_of_classes(meta):
    expected = dict(classes=("a", "b"), palette=[(1, 2, 3), [4, 5, 6]])
    assert dataset_names(dict(meta=meta), "file") == expected


@pytest.mark.parametrize("meta", [None, 5, {}, dict(dataset_meta=None), dict(CLASSES=None)])
def test_no_names(meta):
    assert dataset_names(dict(meta=meta), "file") == {}


@pytest.mark.parametrize(
    "change",
    [
        dict(classes=5),
        dict(classes=torch.ones(3)),
        dict(classes=[["a"]]),
        dict(palette=[(1, 2)]),
        dict(palette=[(300, 0, 0)]),
        dict(palette=torch.ones(2, 3)),
        dict(palette=[("z", 1, 2)]),
    ],
)
def test_no_names_and_no_colours(change):
    with pytest.raises(CheckpointError, match="holds no (names|colours)"):
        dataset_names(dict(meta=dict(dataset_meta=change)), "file")
