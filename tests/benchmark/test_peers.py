from pathlib import Path

import pytest
import torch
from made_up import TINY

from mmplugins import build_backbone
from mmplugins.benchmark import peers
from mmplugins.benchmark.peers import (
    Peers,
    check_equal,
    family_of,
    peer_weights,
    with_peers,
)
from mmplugins.benchmark.rows import Row, parse_row
from mmplugins.benchmark.subjects import Subject

CONFIGS = Path(__file__).parents[2] / "configs"


def test_rows_get_timm_in_four_forms():
    rows = [parse_row(row) for row in ("caformer_s18:bf16", "timm/resnet18", "riformer_s12")]
    labels = [row.label for row in with_peers(rows)]
    assert labels == [
        "caformer_s18:bf16",
        "timm/resnet18",
        "riformer_s12",
        "timm/caformer_s18:bf16",
        "timm/caformer_s18:channels_last,bf16",
        "timm/caformer_s18:compile,bf16",
        "timm/caformer_s18:channels_last,compile,bf16",
    ]


def test_mmpretrain_joins_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: object())
    labels = [row.label for row in with_peers([parse_row("riformer_s12")])]
    assert labels[:2] == ["riformer_s12", "mmpretrain/riformer_s12"] and len(labels) == 5
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="mmpretrain is not installed"):
        Subject(parse_row("mmpretrain/riformer_s12"))
    with pytest.raises(ValueError, match="expected a name of poolformer, riformer, convnext"):
        Subject(parse_row("mmpretrain/caformer_s18"))


@pytest.mark.parametrize(
    "name", ["poolformerv2_s12", pytest.param("poolformer_s12", marks=pytest.mark.slow)]
)
def test_same_weights_same_maps(name):
    shared = Peers()
    rows = [Row(name), Row(f"timm/{name}"), Row(name, deploy=True)]
    subjects = []
    for row in rows:
        weights, settings = shared.settings_of(row)
        subjects.append(Subject(row, weights=weights, **settings))
    images = subjects[0].images((64, 96))
    ours = subjects[0].infer(images)
    for subject in subjects[1:]:
        check_equal(subject, ours, images)
        for theirs, mine in zip(subject.infer(images), ours, strict=True):
            assert (theirs - mine).abs().max() <= 1e-4 * mine.abs().max()


@pytest.mark.parametrize("name", ["caformer_s18", "convnext_tiny"])
def test_names_of_timm(name):
    with torch.device("meta"):
        weights = build_backbone(name, out_norm=None).state_dict()
        theirs = peer_weights(Row(f"timm/{name}"), weights)
        model = build_backbone(f"timm/{name}")
    assert len(theirs) == len(weights)
    model.load_state_dict(theirs)


def test_every_part_of_the_weights_matters():
    weights, _ = Peers().settings_of(Row("poolformer_s12"))
    scales = [value for key, value in weights.items() if "layer_scale" in key]
    assert scales and all(value.min() > 0.1 for value in scales)
    assert not any(key.startswith("out_norms") for key in weights)


def test_another_function_is_refused():
    small = dict(out_norm=None, arch=TINY)
    ours = Subject(Row("poolformer_s12"), **small)
    scale = "stages.3.blocks.0.layer_scale2.scale"
    weights = ours.model.state_dict()
    ours.model.load_state_dict(weights | {scale: torch.ones_like(weights[scale])})
    wrong = Subject(Row("poolformer_s12"), weights=ours.model.state_dict(), **small)
    wrong.model.get_parameter(scale).data.mul_(1.01)
    images = ours.images((64, 64))
    with pytest.raises(ValueError, match="not the same function: stage 3 differs by"):
        check_equal(wrong, ours.infer(images), images)
    maps = ours.infer(images)
    with pytest.raises(ValueError, match="4 maps, expected 3"):
        check_equal(ours, maps[:3], images)
    with pytest.raises(ValueError, match=r"stage 0: \(1, 32, 16, 16\), ours"):
        check_equal(ours, tuple(torch.zeros(1) for _ in maps), images)


def test_rows_without_a_counterpart_share_nothing():
    shared = Peers()
    for name in ("timm/resnet18", "configs/retinanet/retinanet_shapes.py"):
        assert shared.settings_of(Row(name)) == (None, {})


@pytest.mark.parametrize(
    ("row", "family"),
    [
        ("caformer_s18", "caformer"),
        ("timm/resnet18", "resnet"),
        ("timm/poolformerv2_s12", "poolformerv2"),
        ("configs/semantic_fpn/semantic-fpn_shapes.py", "poolformer"),
    ],
)
def test_family(row, family):
    assert family_of(Subject(parse_row(row))) == family


def test_family_of_a_config_with_a_backbone_of_timm(tmp_path):
    config = tmp_path / "net.py"
    backbone = "dict(_delete_=True, type='TimmBackbone', model_name='timm/resnet18.a1_in1k')"
    config.write_text(
        f"_base_ = {str(CONFIGS / 'semantic_fpn/semantic-fpn_shapes.py')!r}\n"
        f"model = dict(backbone={backbone}, neck=dict(in_channels=[64, 128, 256, 512]))\n"
    )
    assert family_of(Subject(parse_row(str(config)))) == "resnet"
