"""Randomness as a function of the seed and the place in the training, not of what came before.

Every sample is drawn after its process was seeded from (seed, iteration, place in the batch), every
training step after (seed, process, iteration). So a training that is resumed needs no saved random
states, augmentations are the same with any number of workers, and N processes see the samples that
one process with an N times larger batch would.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, DataLoader, Dataset

_DATA, _MODEL = 0, 1  # so that the two never share a seed


class Draw(NamedTuple):
    """A sample to load.

    Attributes:
        index: What the sampler said, the argument of ``dataset[...]``.
        place: Iteration, and place in the batch over all processes.
    """

    index: Any
    place: tuple[int, int]


class KeyedDataset(Dataset):
    """A dataset whose samples depend on where they are drawn and on nothing else.

    To everybody but the data loader it is the dataset it stands for, whose attributes are read and
    set through it.

    Args:
        dataset: Its transforms may draw from ``random``, ``numpy.random`` and torch on the CPU.
        seed: Seed of the training.
    """

    # torch would ask the inner dataset, by this name, for a whole batch at once.
    __getitems__ = None

    def __init__(self, dataset: Dataset, seed: int):
        self.__dict__.update(dataset=dataset, _seed=seed)

    def __getitem__(self, draw: Draw) -> Any:
        _seed_process(_DATA, self._seed, *draw.place)
        return self.dataset[draw.index]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "dataset" or name.startswith("__"):  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)


class KeyedBatches:
    """A batch sampler that says of every index at which place of the training it is drawn.

    Args:
        batches: The batch sampler that chooses the indices of this process.
    """

    def __init__(self, batches: Any):
        self.batches = batches
        self.start(0)

    def start(self, iteration: int, skip: int = 0) -> None:
        """Set where the training is.

        Args:
            iteration: That of the next batch.
            skip: Batches to pass over, without loading them, before that one.
        """
        self._iteration, self.skip = iteration, skip

    @property
    def sampler(self) -> Any:
        """The sampler below the batch sampler, whose epoch mmengine's hook sets."""
        return self.batches.sampler

    def __iter__(self) -> Iterator[list[Draw]]:
        rank, processes = get_dist_info()
        for batch in self.batches:
            if self.skip:
                self.skip -= 1
                continue
            iteration, self._iteration = self._iteration, self._iteration + 1
            yield [Draw(i, (iteration, n * processes + rank)) for n, i in enumerate(batch)]

    def __len__(self) -> int:
        return len(self.batches)


def keyed_loader(
    loader: DataLoader, cfg: dict[str, Any], seed: int, sampler_seed: int
) -> DataLoader:
    """A loader over the same dataset, from its first sample, with randomness by place.

    Args:
        loader: As mmengine built it; it may have run already.
        cfg: The config it was built from (``sampler``, ``batch_sampler``).
        seed: Seed of the augmentations.
        sampler_seed: Seed of the order of samples.
    """
    order = dict(dataset=loader.dataset, seed=sampler_seed)
    sampler = DATA_SAMPLERS.build(cfg["sampler"], default_args=order)
    if cfg.get("batch_sampler"):
        size = {"batch_size": cfg["batch_size"]} if "batch_size" in cfg else {}
        batches = DATA_SAMPLERS.build(
            cfg["batch_sampler"], default_args=dict(sampler=sampler, **size)
        )
    else:
        batches = BatchSampler(sampler, loader.batch_size, loader.drop_last)
    return DataLoader(
        KeyedDataset(loader.dataset, seed),
        batch_sampler=KeyedBatches(batches),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def seed_step(seed: int, iteration: int) -> None:
    """Seed this process for a training step: drop path, sampling of proposals, and the like."""
    torch.manual_seed(_seed_process(_MODEL, seed, get_dist_info()[0], iteration))  # all devices


def _seed_process(*key: int) -> int:
    """Seed ``random``, numpy and torch on the CPU from ``key``; returns torch's seed."""
    words = np.random.SeedSequence(key).generate_state(6)
    random.seed(words[:2].tobytes())
    np.random.seed(words[2:4])
    seed = int(words[4]) << 32 | int(words[5])
    torch.default_generator.manual_seed(seed)
    return seed
