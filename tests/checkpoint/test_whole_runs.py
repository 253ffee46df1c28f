"""Checkpoints as mmdet 2.x, mmseg 0.x and 3.x / 1.x saved whole PoolFormer and ConvNeXt runs."""

import copy

import pytest
import torch
import written_layouts as written
from mmengine.registry import MODELS, DefaultScope
from small_models import SMALL

from mmplugins.checkpoint import load_weights
from mmplugins.checkpoint.fitting import match_model

DIMS = list(written.DIMS)


def detector(backbone, classes=3):
    head = dict(
        type="RetinaHead", num_classes=classes, in_channels=16, feat_channels=16, stacked_convs=1
    )
    neck = dict(type="FPN", in_channels=DIMS, out_channels=16, num_outs=5, start_level=0)
    model = dict(type="RetinaNet", backbone=backbone, neck=neck, bbox_head=head)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(copy.deepcopy(model))


def segmentor(backbone, classes=3):
    head = dict(
        type="FPNHead",
        in_channels=[16] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=16,
        num_classes=classes,
        norm_cfg=dict(type="BN"),
    )
    neck = dict(type="FPN", in_channels=DIMS, out_channels=16, num_outs=4)
    model = dict(type="EncoderDecoder", backbone=backbone, neck=neck, decode_head=head)
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(copy.deepcopy(model))


BACKBONES = {
    "PoolFormer": (
        dict(type="PoolFormer", arch=SMALL),
        lambda: written.poolformer_official(form="dense"),
    ),
    "ConvNeXt": (dict(type="ConvNeXt", arch=SMALL), lambda: written.convnext(dense=True)),
    "ConvNeXt of mmpretrain": (
        dict(type="ConvNeXt", arch=SMALL),
        lambda: written.convnext("mmpretrain", dense=True),
    ),
}
META = {
    "2.x": dict(epoch=12, iter=99, CLASSES=("a", "b", "c"), PALETTE=None, mmdet_version="2.19.0"),
    "3.x": dict(epoch=12, iter=99, dataset_meta=dict(classes=("a", "b", "c"))),
}


def run(build, backbone, write, line):
    """A checkpoint of a whole model, its backbone in the names of the run's own code."""
    writer = write()
    torch.manual_seed(1)
    whole = build(backbone).state_dict()
    state = {k: torch.rand(v.shape) for k, v in whole.items() if not k.startswith("backbone.")}
    state |= {f"backbone.{key}": value for key, value in writer.state_dict.items()}
    state = {k: v.long() if k.endswith("tracked") else v for k, v in state.items()}
    content = dict(meta=META[line], state_dict=state, optimizer=dict(state={}, param_groups=[]))
    return content, writer.ours


@pytest.mark.parametrize("line", META)
@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("build", [detector, segmentor])
def test_whole_runs_fit_and_report_by_part_and_stage(build, name, line, save):
    backbone, write = BACKBONES[name]
    content, ours = run(build, backbone, write, line)
    model = build(backbone)
    report, fitted = match_model(model, content, "run.pth")
    assert report.problems(whole=True) == []
    model.load_state_dict(fitted)
    loaded = model.state_dict()
    for key, value in ours.items():
        own = loaded[f"backbone.{key}"]
        assert torch.equal(own, value.reshape(own.shape)), key
    for key, value in content["state_dict"].items():
        if not key.startswith("backbone."):
            assert torch.equal(loaded[key], value), key
    text = str(report)
    rows = [f"backbone {row}" for row in ("stem", "stage 0", "stage 3", "output norms")]
    assert all(row in text for row in (*rows, "neck", "head"))
    # and as a start for a bare backbone
    bare = MODELS.build(dict(backbone))
    assert load_weights(bare, save(content)).ok
    assert torch.equal(bare.state_dict()["stem.conv.weight"], ours["stem.conv.weight"])


@pytest.mark.parametrize("line", META)
def test_other_classes_start_afresh_and_are_counted(line):
    backbone, write = BACKBONES["PoolFormer"]
    content, _ = run(detector, backbone, write, line)
    report, _ = match_model(detector(backbone, classes=7), content, "run.pth")
    assert report.problems(whole=False) == []
    assert any("trained for 3" in line for line in report.notes())
    assert report.problems(whole=True)
