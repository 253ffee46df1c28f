"""Every line of docs/training.md in a short training, with the losses that it should have.

The lines are read from the guide, so that the guide cannot say what does not work.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_training import ROOT, STEPS, Training, build_runner, read_config, train

GUIDE = (ROOT / "docs/training.md").read_text()


def line(section: str, number: int = 0) -> str:
    """A code block of a section of the guide."""
    (text,) = (t for t in GUIDE.split("\n## ") if t.startswith(f"{section}\n"))
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return partial(train, tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The training without any option, one of each task."""
    known: dict[str, Training] = {}

    def plain(task: str) -> Training:
        if task not in known:
            folder = tmp_path_factory.mktemp(task)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                known[task] = train(folder, task)
            check(known[task])
        return known[task]

    return plain


def check(training: Training) -> None:
    """As many losses as steps, all finite, and falling."""
    losses = training.losses
    assert len(losses) == STEPS and losses.isfinite().all()
    assert losses[-3:].mean() < 0.9 * losses[:3].mean()


def assert_same(training: Training, plain: Training, tolerance: float) -> None:
    check(training)
    # The loss scaler of float16 skips a step whose gradients overflow, at other steps on other
    # processors. All steps see the same batch, so the loss after a skipped one is the same again.
    losses = training.losses.unique_consecutive()
    assert len(losses) >= STEPS - 2
    expected = plain.losses[: len(losses)]
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    assert training.weights().keys() == plain.weights().keys()


def test_the_guide_is_covered():
    assert len(re.findall(r"```python\n", GUIDE)) == 9


@pytest.mark.parametrize(
    ("task", "number", "dtype", "tolerance"),
    [
        pytest.param("detector", 0, torch.bfloat16, 0.1, marks=pytest.mark.slow),
        ("segmentor", 1, torch.float16, 0.02),
    ],
)
def test_mixed_precision(task, number, dtype, tolerance, run, plain):
    training = run(task, line("Mixed precision", number))
    wrapper = training.runner.optim_wrapper
    assert wrapper.cast_dtype is dtype
    assert wrapper.loss_scaler.is_enabled() is (dtype is torch.float16)
    with wrapper.optim_context(training.runner.model):
        image = torch.zeros(1, 3, 64, 64)
        assert training.runner.model.backbone.stem.conv(image).dtype is dtype
    assert_same(training, plain(task), tolerance)
    assert all(w.dtype is not dtype for w in training.weights().values())


def test_gradient_clipping(run, plain):
    text = line("Gradient clipping")
    assert "max_norm=1.0" in text
    loose = run("detector", text.replace("1.0", "1e6"))
    norms = torch.tensor([record["grad_norm"] for record in loose.logged])
    assert len(norms) == STEPS and norms.max() > 0.02
    assert_same(loose, plain("detector"), 1e-5)


def test_clipped_gradients_are_short(run, monkeypatch):
    lengths = []
    step = torch.optim.AdamW.step

    def measured_step(optimizer, *args, **kwargs):
        grads = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        lengths.append(float(torch.cat(grads).norm()))
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", measured_step)
    run("detector", line("Gradient clipping").replace("1.0", "0.01"), train_cfg__max_iters=2)
    assert lengths == pytest.approx([0.01, 0.01], rel=1e-3)


def test_less_memory(run, plain):
    training = run("segmentor", line("Less memory"))
    assert training.runner.model.backbone.with_cp
    assert_same(training, plain("segmentor"), 1e-5)


@pytest.mark.slow
def test_channels_last(run, plain):
    # From given weights: random ones are drawn in the order in which they lie in memory.
    start = plain("segmentor").file
    training = run("segmentor", line("Channels-last"), load_from=start)
    weight = training.runner.model.backbone.stem.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(training, run("segmentor", load_from=start), 1e-3)


@pytest.mark.slow
def test_compiled_backbone(run, plain):
    """Other sizes need few new graphs, and the checkpoint is that of a plain model."""
    from torch._dynamo.utils import counters

    counters.clear()
    text = line("A compiled backbone")
    assert '"CompileBackboneHook"' in text
    text = text.replace('Hook"', 'Hook", backend="aot_eager"')  # no C++ compiler, and quick
    training = run("segmentor", text)
    assert_same(training, plain("segmentor"), 1e-3)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0 and not counters["graph_break"]
    backbone = training.runner.model.backbone.train()
    for size in ((96, 64), (128, 160), (64, 224), (160, 96), (224, 128)):
        backbone(torch.zeros(4, 3, *size))
    (log,) = Path(training.runner.log_dir).glob("*.log")
    text = log.read_text()
    assert text.count("Compiling the blocks of the backbone") == 1 and "Compiled so far" in text
    stages = len(backbone.stages)
    assert counters["stats"]["unique_graphs"] <= graphs + 2 * stages
    plain("segmentor").runner.model.load_state_dict(training.weights())


@pytest.mark.slow
def test_averaged_weights(run, plain, tmp_path):
    text = line("Averaged weights")
    assert "momentum=0.0002" in text
    text = text.replace("0.0002", "0.5")  # twelve steps are few
    training = run("detector", text)
    assert_same(training, plain("detector"), 1e-6)  # training itself goes on with the raw weights
    key = "bbox_head.retina_cls.weight"
    raw, averaged = plain("detector").weights()[key], training.weights()[key]
    torch.testing.assert_close(training.checkpoint["ema_state_dict"][f"module.{key}"], raw)
    assert not torch.allclose(averaged, raw)

    # Half the way, then the rest from the checkpoint: the same weights, raw and averaged.
    cfg = read_config(tmp_path, "detector", text)
    cfg.work_dir = str(tmp_path / "again")
    cfg.train_cfg.max_iters = 6
    cfg.default_hooks.checkpoint.interval = 6
    build_runner(cfg).train()
    cfg.train_cfg.max_iters = STEPS
    cfg.resume = True
    build_runner(cfg).train()
    again = torch.load(Path(cfg.work_dir) / f"iter_{STEPS}.pth", weights_only=False)
    torch.testing.assert_close(again["state_dict"][key], averaged)
    torch.testing.assert_close(again["ema_state_dict"][f"module.{key}"], raw)


def test_layer_decay(run):
    training = run("segmentor", line("Layer-wise and stage-wise decay of the learning rate"))
    check(training)
    groups = training.runner.optim_wrapper.optimizer.param_groups
    assert {g["weight_decay"] for g in groups} == {0, 0.05}
    assert max(g["lr"] for g in groups) == pytest.approx(4e-3)
    (log,) = Path(training.runner.log_dir).glob("*.log")
    assert "Groups of LayerDecayOptimWrapperConstructor, stage_wise:" in log.read_text()


@pytest.mark.slow
def test_a_frozen_start(run):
    text = line("A frozen start")
    long = run("detector", text)
    check(long)
    long = long.weights()
    short = run("detector", text, train_cfg__max_iters=1, default_hooks__checkpoint__interval=1)
    moved = {n for n, w in short.weights().items() if not torch.equal(w, long[n])}
    frozen = {n for n in long if n.startswith(("backbone.stem.", "backbone.stages.0."))}
    assert frozen and not frozen & moved
    assert {n for n in long if n.startswith("backbone.stages.1.") and "weight" in n} <= moved


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detector", "segmentor"])
def test_another_backbone_trains(task, run):
    arch = dict(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64))
    training = run(task, backbone=dict(type="CAFormer", arch=arch))
    check(training)
    channels = [8, 16, 32, 64] if task == "segmentor" else [16, 32, 64]
    assert list(training.runner.model.neck.in_channels) == channels
