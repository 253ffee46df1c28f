"""Whole detectors: where a training step spends its time, and whether fifty of them learn."""

from __future__ import annotations

import json
import statistics
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

from mmplugins.engine import build_runner, load_config, train
from mmplugins.engine.config import settings

from ..stages import marked
from ..stopwatch import Stopwatch

RECIPES = {
    "RetinaNet": "retinanet/retinanet_shapes.py",
    "Mask R-CNN": "mask_rcnn/mask-rcnn_shapes.py",
    "Semantic FPN": "semantic_fpn/semantic-fpn_shapes.py",
}
HEADS = ("bbox_head", "rpn_head", "decode_head")
WAITS = ("_local_scalar_dense", "nonzero", "_unique2")
"""Operators whose result Python waits for: ``.item()``, ``if tensor``, masks as indices."""


class Waits(TorchDispatchMode):
    """Counts the operators at which Python waits for the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        moved = func.overloadpacket.__name__ == "_to_copy" and args[0].is_cuda and not out.is_cuda
        self.count += func.overloadpacket.__name__ in WAITS or moved
        return out


def config_of(recipe: str, configs: Path, folder: Path, steps: int, small: bool) -> Config:
    """A recipe on the shapes data, for so many steps."""
    cfg = load_config(configs / RECIPES[recipe])
    cfg.work_dir = str(folder / recipe.lower().replace(" ", "-"))
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=10**6)
    cfg.param_scheduler = None
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=10**6,
                                        save_last=False)  # fmt: skip
    cfg.log_processor = dict(by_epoch=False, window_size=1)
    for hook in ("progress", "results", "exact_resume"):
        cfg.default_hooks.pop(hook, None)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    if small:
        cfg.train_dataloader.batch_size = 2
        cfg.train_dataloader.num_workers = 0
        cfg.train_dataloader.persistent_workers = False
        tiny = dict(depths=(1, 1, 1, 1), dims=(64, 128, 320, 512))
        cfg.model.backbone.arch = tiny
    return cfg


def step_by_part(
    cfg: Config, device: torch.device, rounds: int, backend: str | None = None
) -> dict[str, float]:
    """Milliseconds of a training step by part, and how often Python waits in it.

    The head's forward is apart from its losses; of Mask R-CNN that is the RPN's, and what the
    regions cost is in ``loss``. With a ``backend`` of ``torch.compile``, neck and head are
    compiled, which ``compile_blocks`` leaves out: the row says whether that pays.
    """
    runner = build_runner(cfg)
    model = runner.model.train()
    loop = iter(runner.build_dataloader(cfg.train_dataloader))
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    watch, laps, waits = Stopwatch(device), [], 0
    ends = [(model.backbone, "backbone"), (model.neck, "neck")]
    ends += [(getattr(model, head), "head") for head in HEADS if hasattr(model, head)]
    for part, _ in ends[1:] if backend else ():
        part.forward = torch.compile(part.forward, backend=backend)
    for i in range(rounds + 2):
        watch.start()
        batch = next(loop)
        watch.lap("data")
        with Waits() if i == 1 else _nothing() as counted, marked(ends, watch):
            data = model.data_preprocessor(batch, True)
            watch.lap("preprocess")
            with wrapper.optim_context(model):
                losses = model(**data, mode="loss")
            loss, _ = model.parse_losses(losses)
            watch.lap("loss")
            wrapper.backward(wrapper.scale_loss(loss))
            watch.lap("backward")
            wrapper.step()
            wrapper.zero_grad()
            watch.lap("optimiser")
        taken = watch.stop()
        if i == 1:
            waits = counted.count if counted else 0
        if i > 1:
            laps.append(taken)
    parts = {part: statistics.median(lap.get(part, 0.0) for lap in laps) * 1000 for part in laps[0]}
    return parts | dict(total=sum(parts.values()), waits=waits)


def real_steps(cfg: Config, compiled: bool = True) -> dict[str, float]:
    """Train as ``tools/train.py --amp --compile`` does: the mean loss at both ends.

    Raises:
        ArithmeticError: If the loss does not fall.
    """
    settings.use_amp(cfg)
    if compiled:
        settings.use_compiler(cfg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = train(cfg)
    losses = _losses(runner)
    fifth = max(1, len(losses) // 5)
    first, last = statistics.mean(losses[:fifth]), statistics.mean(losses[-fifth:])
    if not last < first:
        raise ArithmeticError(f"the loss goes from {first:.3f} to {last:.3f}: expected it to fall")
    return dict(steps=len(losses), first=first, last=last)


def _losses(runner: Runner) -> list[float]:
    (scalars,) = Path(runner.log_dir).glob("vis_data/scalars.json")
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
