"""The study's bookkeeping and two of its runs; the export as a command."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
from programs import ROOT, load


@pytest.fixture(scope="module")
def study():
    return load("projects/distillation/study.py")


@pytest.fixture
def args(tmp_path):
    return argparse.Namespace(
        out=tmp_path / "study",
        tasks=["semantic-fpn"],
        seeds=2,
        iterations=1,
        batch=2,
        image_size=64,
        train=4,
        val=2,
        lr=1e-4,
        amp=False,
    )


def test_rows_build_on_each_other(study, args):
    args.tasks = list(study.TASKS)
    for task, scores in (("semantic-fpn", "pixel_scores"), ("retinanet", "anchor_scores")):
        configs = [study.run_config(task, row, 1, args) for row in study.ROWS]
        kinds = [cfg.model.get("student", cfg.model).backbone.type for cfg in configs]
        assert kinds == ["PoolFormer", *["RIFormer"] * 4]
        assert [cfg.model.type == "Distiller" for cfg in configs] == [False] * 2 + [True] * 3
        terms = [set(cfg.model.terms) for cfg in configs[2:]]
        assert terms == [{scores}, *[{scores, "mixer", "block"}] * 2]
        assert [cfg.model.inherit for cfg in configs[2:]] == [False, False, True]
        assert {cfg.model.teacher.backbone.type for cfg in configs[2:]} == {"PoolFormer"}
        # The same budget, pictures and order for all.
        for cfg in configs:
            for name in ("train_cfg", "optim_wrapper", "param_scheduler", "train_dataloader"):
                assert cfg[name] == configs[0][name]
            assert cfg.randomness == dict(seed=1)


@pytest.mark.slow
def test_teacher_and_last_row(study, args):
    rows = (study.TEACHER, study.ROWS[-1])
    said = [study.do_run("semantic-fpn", row, 0, args) for row in rows]
    values = study.read_results(args)
    assert [values["semantic-fpn", row] for row in rows] == [[value] for value in said]
    assert set(values) == {("semantic-fpn", study.TEACHER), ("semantic-fpn", study.ROWS[-1])}
    assert all(0 <= found[0] <= 100 for found in values.values())
    weights = torch.load(study.teacher_file("semantic-fpn", 0, args), weights_only=True)
    assert "backbone.stem.conv.weight" in weights["state_dict"]


def write(study, args, row, seed, value):
    experiment = study.experiment("semantic-fpn", row, seed, args)
    experiment.folder.mkdir(parents=True)
    result = dict(experiment.about, schema=2, score=value, failure=None)
    experiment.result.write_text(json.dumps(result))


def test_table_and_plot(study, args):
    write(study, args, study.ROWS[1], 0, 40.0)
    write(study, args, study.ROWS[1], 1, 44.0)
    write(study, args, study.TEACHER, 0, 50.04)
    values = study.read_results(args)
    lines = study.table(values, args).splitlines()
    assert lines[0] == "| | Semantic FPN, mIoU | seeds | paper, ImageNet top-1 |"
    assert lines[2] == f"| {study.TEACHER} | 50.0 | 50.0 | 75.01 |"
    assert lines[3] == "| RIFormer-S12 | 42.0 ± 2.8 | 40.0, 44.0 | 72.31 |"
    assert lines[4] == "| + soft labels | - | - | 74.05 |"
    study.plot(values, args)
    assert (args.out / "study.png").read_bytes().startswith(b"\x89PNG")


def test_another_budget_is_refused(study, args):
    write(study, args, study.TEACHER, 0, 50.0)
    args.iterations = 2
    with pytest.raises(
        ValueError, match="result of something else .budget: .*now .*.iterations.: 2"
    ):
        study.read_results(args)


def test_export_says_what_is_wrong(tmp_path, end):
    config = ROOT / "configs/semantic_fpn/semantic-fpn_shapes.py"
    torch.save(dict(a=torch.ones(1)), tmp_path / "a.pth")
    said = end("distill_export", config, tmp_path / "a.pth", tmp_path / "b.pth")
    assert said.startswith("error: the model of the config is 'EncoderDecoder'")
