"""mmengine's two training loops, able to start again at any iteration as if never stopped.

Where mmengine's own restart an epoch, load and throw away what was trained on, or pass over the
validation that was due, these go to the very place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..unwrapping import bare_model
from .keyed_randomness import keyed_loader, seed_step


@dataclass
class Restart:
    """What a checkpoint says beyond iteration and epoch.

    Attributes:
        sampler_seed: Seed of the order of samples; None for the training's own.
        validated: Whether the validation that is due at this point was done.
        gradients: Gradients by parameter, if it was saved between two optimiser steps.
    """

    sampler_seed: int | None = None
    validated: bool = False
    gradients: dict[str, torch.Tensor] | None = None


class _ExactLoop(BaseLoop):
    """What both loops share: the place to start from, and steps seeded by their iteration.

    Args:
        loop: A loop of mmengine, fully built; this one takes its place.
        loader_cfg: The config of its data loader.
    """

    dataloader: DataLoader

    def __init__(self, loop: BaseLoop, loader_cfg: dict[str, Any]):
        self.__dict__.update(vars(loop))
        self._loader_cfg = loader_cfg
        batches = self.dataloader.batch_sampler
        self.sampler_seed = getattr(batches.sampler, "seed", None)
        self._own_sampler_seed = self.runner._randomness_cfg.get("diff_rank_seed", False)
        self.restart: Restart | None = None

    def _begin(self) -> None:
        """Prepare data and gradients; to be called once the checkpoint, if any, was read."""
        runner = self.runner
        if self.restart and self.restart.sampler_seed is not None:
            self.sampler_seed = self.restart.sampler_seed
        elif not self._own_sampler_seed or self.sampler_seed is None:
            self.sampler_seed = runner.seed  # the checkpoint's, if the config names none
        self.dataloader = keyed_loader(
            self.dataloader, self._loader_cfg, runner.seed, self.sampler_seed
        )
        if self.restart and self.restart.gradients:
            parameters = dict(bare_model(runner.model).named_parameters())
            for name, gradient in self.restart.gradients.items():
                parameters[name].grad = gradient.to(parameters[name])

    def _validate_if_due(self, done: int, total: int) -> None:
        """Validate after ``done`` of ``total`` epochs or iterations, if the config wants it."""
        self._decide_current_val_interval()
        if self.runner.val_loop is None or done < self.val_begin:
            return
        if done % self.val_interval == 0 or done == total:
            self.runner.val_loop.run()

    def run_iter(self, *args: Any) -> None:
        """Do one training step; arguments are those of mmengine's loop."""
        seed_step(self.runner.seed, self._iter)
        super().run_iter(*args)


class ExactEpochLoop(_ExactLoop, EpochBasedTrainLoop):
    """Trains by epochs, from any iteration of any epoch."""

    @property
    def done_in_epoch(self) -> int:
        """Iterations of the current epoch that are behind us."""
        done = self._iter - self._epoch * len(self.dataloader)
        return done if 0 <= done <= len(self.dataloader) else 0

    def run(self) -> torch.nn.Module:
        """Train to the end; returns the model."""
        self._begin()
        self.runner.call_hook("before_train")
        if self.restart and not self.restart.validated and self._epoch and not self.done_in_epoch:
            self._validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train what is left of the current epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self.done_in_epoch
        self.dataloader.batch_sampler.start(self._iter, skip=done)
        for idx, data_batch in enumerate(self.dataloader, done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


class ExactIterLoop(_ExactLoop, IterBasedTrainLoop):
    """Trains by iterations, from any iteration."""

    def __init__(self, loop: IterBasedTrainLoop, loader_cfg: dict[str, Any]):
        super().__init__(loop, loader_cfg)
        # It has workers that load already; both end with it.
        self.dataloader_iterator: Iterator[Any] | None = None
        loop.dataloader_iterator = None

    def run(self) -> torch.nn.Module:
        """Train to the end; returns the model."""
        self._begin()
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        batches = self.dataloader_iterator = self._batches()
        if self.restart and not self.restart.validated and self._iter:
            self._validate_if_due(self._iter, self._max_iters)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _batches(self) -> Iterator[Any]:
        """Batches without end, also of samplers that end."""
        order = self.dataloader.batch_sampler
        order.start(self._iter, skip=self._iter)
        passes = 0
        while True:
            before = order.skip, self._iter
            yield from self.dataloader
            if before == (order.skip, self._iter):
                raise ValueError(
                    f"train_dataloader gives no batch out of {len(self.dataloader.dataset)} "
                    "samples: expected at least one batch; lower batch_size or unset drop_last"
                )
            passes += 1
            if hasattr(order.sampler, "set_epoch"):
                order.sampler.set_epoch(passes)


def exact_loop(runner: Runner) -> _ExactLoop | None:
    """The loop that takes the place of a runner's, or None for a loop that is not mmengine's."""
    loop, cfg = runner._train_loop, runner._train_dataloader
    kinds = {EpochBasedTrainLoop: ExactEpochLoop, IterBasedTrainLoop: ExactIterLoop}
    known = type(loop) in kinds and isinstance(getattr(loop, "dataloader", None), DataLoader)
    if not known or not isinstance(cfg, dict) or not isinstance(cfg.get("sampler"), dict):
        return None
    return kinds[type(loop)](loop, cfg)
