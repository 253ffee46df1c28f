"""Trainings of a few steps through the runner, as the tools do them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from small_pairs import SCORES, TASKS, build, model_config, recipe
from two_processes import one_process, run_processes

from mmplugins import engine
from mmplugins.checks import failures, preflight

STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("distillation")


def training(task: str, folder: Path, work_dir: str, steps: int = STEPS) -> Config:
    """A plain training of the student on six pictures."""
    cfg = recipe(task)
    cfg.model = model_config(task, "RIFormer")
    data_root = f"{folder}/shapes/"
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].update(batch_size=2, num_workers=0, persistent_workers=False)
        data = cfg[name].dataset
        data.data_root = data_root
        data.generate = dict(image_size=64, num_train=6, num_val=4, seed=0)
        for step in data.pipeline:
            if step["type"] == "Resize":
                step["scale"] = (64, 64)
    cfg.train_dataloader.sampler = dict(type="InfiniteSampler", shuffle=True)
    if "ann_file" in cfg.test_evaluator:
        cfg.test_evaluator.ann_file = f"{data_root}annotations/instances_val.json"
    cfg.val_evaluator = copy.deepcopy(cfg.test_evaluator)
    cfg.model.test_cfg.score_thr = 0.001
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=STEPS)
    cfg.param_scheduler = []
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.pop("results", None)  # draws curves
    cfg.work_dir = str(folder / work_dir)
    return cfg


def distillation(task: str, folder: Path, work_dir: str, steps: int = STEPS) -> Config:
    cfg = training(task, folder, work_dir, steps)
    cfg.model = dict(
        type="Distiller",
        student=cfg.model,
        teacher=model_config(task, "PoolFormer"),
        terms={name: dict(warmup=2) for name in ("mixer", "block", SCORES[task])},
        untrained_teacher=True,
        inherit=True,
    )
    return cfg


def scalars(work_dir: str) -> list[dict]:
    (path,) = Path(work_dir).glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "task", [t if t == "semantic-fpn" else pytest.param(t, marks=pytest.mark.slow) for t in TASKS]
)
def test_train_then_test_as_plain_model(task, folder):
    cfg = distillation(task, folder, task)
    runner = engine.train(copy.deepcopy(cfg))
    assert runner.iter == STEPS
    steps = [line for line in scalars(cfg.work_dir) if "loss" in line]
    for name in cfg.model.terms:
        assert all(line[f"loss_distill_{name}"] > 0 for line in steps)
    optimised = [p for group in runner.optim_wrapper.param_groups for p in group["params"]]
    assert len(optimised) == len(list(runner.model.student.parameters()))

    checkpoint = Path(cfg.work_dir) / f"iter_{STEPS}.pth"
    plain = build(task, model_config(task, "RIFormer"))
    content = torch.load(checkpoint, weights_only=False)
    plain.load_state_dict(content["state_dict"])
    assert set(content["state_dict"]) == set(plain.state_dict())

    metrics = []
    for model in (cfg.model, cfg.model.student):
        test = training(task, folder, f"{task}_test_{len(metrics)}")
        test.model, test.load_from = copy.deepcopy(model), str(checkpoint)
        metrics.append(engine.test(test)[1])
    assert metrics[0] == metrics[1] and metrics[0]


@pytest.mark.slow
def test_resume_and_average(folder):
    """Two steps and one more after resuming are three steps; with an average beside them."""
    task, states = "semantic-fpn", []
    for name, parts in (("whole", [3]), ("parts", [2, 3])):
        for steps in parts:
            cfg = distillation(task, folder, name, steps)
            cfg.randomness = dict(seed=0)
            cfg.custom_hooks = [dict(type="EMAHook", momentum=0.1)]
            cfg.train_cfg.val_interval = 10
            cfg.resume = steps == 3 and len(parts) > 1
            runner = engine.train(cfg)
        content = torch.load(Path(cfg.work_dir) / "iter_3.pth", weights_only=False)
        assert not any("teacher" in key for key in content["ema_state_dict"])
        states.append((runner.model.state_dict(), content))
    (whole, kept), (parts, resumed) = states
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-4, atol=1e-5)
    for key, value in kept["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][key], value, rtol=1e-4, atol=1e-5)
    assert kept["state_dict"].keys() == whole.keys()


def test_mixed_precision(folder):
    cfg = distillation("retinanet", folder, "amp", steps=2)
    engine.config.settings.use_amp(cfg)
    engine.train(cfg)
    for line in scalars(cfg.work_dir):
        if "loss" in line:
            assert 0 < line["loss_distill_anchor_scores"] < float("inf")


def test_checks_before_training(folder):
    """They look at the student, take a step, and find a teacher whose weights are not there."""
    cfg = distillation("semantic-fpn", folder, "checked")
    assert failures(preflight(cfg)) == []
    cfg.model.update(untrained_teacher=False, teacher_checkpoint="nowhere.pth")
    cfg.model.student.data_preprocessor.std = [1.0, 0.0, 1.0]
    wrong = [result.message for result in failures(preflight(cfg))]
    assert any(text.startswith("model.student.data_preprocessor.std: ") for text in wrong)
    del cfg.model.student.data_preprocessor.std, cfg.model.teacher.data_preprocessor.std
    del cfg.model.student.data_preprocessor.mean, cfg.model.teacher.data_preprocessor.mean
    (wrong,) = (result.message for result in failures(preflight(cfg)))
    assert "'nowhere.pth' does not exist" in wrong


@pytest.fixture
def taught(folder):
    """A distillation from a config file and its weights, and where both are."""
    cfg = distillation("semantic-fpn", folder, "taught")
    config, weights = folder / "teacher.py", folder / "teacher.pth"
    Config(dict(model=cfg.model.teacher)).dump(config)
    torch.save(build("semantic-fpn", cfg.model.teacher).state_dict(), weights)
    cfg.model.update(teacher=str(config), teacher_checkpoint=str(weights), untrained_teacher=False)
    return cfg, config, weights


def test_checks_of_the_teachers_weights(taught, tmp_path):
    cfg, _, weights = taught
    results = preflight(cfg)
    assert failures(results) == []
    (said,) = [result.message for result in results if result.name == "weights"]
    assert said == f"{weights} fits the teacher, EncoderDecoder"

    (tmp_path / "garbage.pth").write_bytes(b"no checkpoint")
    less = torch.load(weights)
    del less["backbone.stem.conv.weight"]
    torch.save(less, tmp_path / "less.pth")
    other = build("semantic-fpn", model_config("semantic-fpn", "ConvFormer"))
    torch.save(other.state_dict(), tmp_path / "other.pth")
    for name, message in (
        ("nowhere.pth", "nowhere.pth' does not exist: train the teacher first"),
        ("garbage.pth", "garbage.pth"),
        ("less.pth", "backbone: 1 missing in the file: backbone.stem.conv.weight"),
        ("other.pth", "does not fit the teacher, EncoderDecoder with PoolFormer"),
    ):
        cfg.model.teacher_checkpoint = str(tmp_path / name)
        (wrong,) = failures(preflight(cfg))
        assert wrong.name == "weights" and message in wrong.message, wrong
        assert wrong.message.startswith("model.teacher_checkpoint: ")


def test_checks_of_the_teachers_config(taught, tmp_path):
    cfg, config, _ = taught
    cfg.model.teacher = str(tmp_path / "no_such_teacher.py")
    (wrong,) = failures(preflight(cfg))
    assert wrong.name == "model" and "no_such_teacher.py' does not exist" in wrong.message
    # A teacher that is to start from weights of its own: they must be there, too.
    text = Config.fromfile(config)
    text.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="none.pth")
    text.dump(tmp_path / "teacher.py")
    cfg.model.update(
        teacher=str(tmp_path / "teacher.py"), teacher_checkpoint=None, untrained_teacher=True
    )
    (wrong,) = failures(preflight(cfg))
    assert wrong.name == "weights"
    assert wrong.message.startswith("model.teacher.backbone.init_cfg.checkpoint: none.pth does not")


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_distributed(processes, tmp_path):
    """Every parameter gets a gradient, averaged; the teacher is not broadcast."""
    first, *others = run_processes(one_process, tmp_path, processes)
    assert first["same"] and all(other["same"] for other in others)
    assert any(name.startswith("terms.") for name in first["gradients"])
    for name, gradient in first["gradients"].items():
        assert gradient is not None, name
        for other in others:
            torch.testing.assert_close(gradient, other["gradients"][name])
