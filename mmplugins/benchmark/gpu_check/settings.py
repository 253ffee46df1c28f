"""What a check of a card runs on, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..peers import Peers
from ..rows import Row
from ..session import QUIET, Listener
from ..subjects import Subject
from .whole import RECIPES

FAMILIES = (
    "poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18", "convnext_tiny",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a check runs on.

    Attributes:
        device: Where.
        folder: Where results go.
        configs: Folder of the project's configs.
        small: Sizes and rounds for a CPU.
        workers: Processes for what is not timed. 1, the default: this one.
        peers: The networks of timm that are known to equal ours.
        subjects: Models that are built already.
        listener: Who is told how a timing goes on.
    """

    device: torch.device
    folder: Path
    configs: Path
    small: bool
    workers: int = 1
    peers: Peers = field(default_factory=Peers)
    subjects: dict[Row, Subject] = field(default_factory=dict)
    listener: Listener = QUIET

    @property
    def families(self) -> tuple[str, ...]:
        return FAMILIES[:2] if self.small else FAMILIES

    @property
    def sizes(self) -> tuple[tuple[tuple[int, int], tuple[int, ...]], ...]:
        return (((64, 64), (1,)),) if self.small else (((512, 512), (1, 8)), ((800, 1280), (2,)))

    @property
    def training(self) -> tuple[tuple[int, int], tuple[int, ...]]:
        return ((64, 64), (2,)) if self.small else ((512, 512), (8,))

    @property
    def rounds(self) -> int:
        return 2 if self.small else 9

    @property
    def recipes(self) -> tuple[str, ...]:
        return tuple(RECIPES)[: 1 if self.small else 3]
