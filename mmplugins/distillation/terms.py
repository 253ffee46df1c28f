"""The terms of distillation that compare feature maps, and the base class of all terms.

A term is one entry of ``terms`` in the config, by name::

    terms=dict(
        mixer=dict(weight=1.0, warmup=500),
        pixel_scores=dict(weight=3.0, temperature=2.0, decay='cosine'),
    )

In the log it is ``loss_distill_<name>``. The terms that compare scores are in :mod:`.responses`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from mmengine.logging import MessageHub
from torch import Tensor, nn

from .captures import Captures
from .errors import DistillationError
from .losses import imitation_loss, relation_loss
from .matching import Blocks, Pairs, match_blocks


@dataclass
class Step:
    """What terms see of one training step.

    Attributes:
        student: Detector or segmentor in training.
        teacher: The frozen one.
        own: Calls of the student's modules.
        other: Calls of the teacher's modules.
        features: The feature maps that the teacher's heads take, one per level.
        data_samples: The batch's annotations and sizes.
    """

    student: nn.Module
    teacher: nn.Module
    own: Captures
    other: Captures
    features: Sequence[Tensor]
    data_samples: list


class Term(nn.Module):
    """One weighted loss between student and teacher.

    Args:
        weight: Factor of the loss. Defaults to 1.
        warmup: Iterations over which the factor grows linearly from 0. Defaults to 0.
        decay: How the factor falls to 0 after that, ``'linear'`` or ``'cosine'``. Defaults to None:
            it stays.
        until: Iteration at which it has fallen. Defaults to the end of the training.

    Attributes:
        student_points: Modules of the student whose calls the term needs.
        teacher_points: The same of the teacher.
    """

    def __init__(
        self,
        weight: float = 1.0,
        warmup: int = 0,
        decay: Literal["linear", "cosine"] | None = None,
        until: int | None = None,
    ):
        super().__init__()
        if weight < 0 or warmup < 0 or decay not in (None, "linear", "cosine"):
            raise DistillationError(
                f"weight={weight}, warmup={warmup}, decay={decay!r}: expected numbers from 0, and "
                "'linear', 'cosine' or None"
            )
        if until is not None and (decay is None or until <= warmup):
            raise DistillationError(
                f"until={until}: expected an iteration after warmup={warmup}, and a decay"
            )
        self.weight, self.warmup, self.decay, self.until = weight, warmup, decay, until
        self.student_points: list[str] = []
        self.teacher_points: list[str] = []

    def factor(self, iteration: int, iterations: int | None = None) -> float:
        """The weight at an iteration, counted from 0.

        Args:
            iteration: The iteration. The first one of a warm-up already has a weight above 0.
            iterations: Length of the training, where the decay ends without ``until``.
        """
        factor = self.weight
        if iteration < self.warmup:
            factor *= (iteration + 1) / self.warmup
        end = self.until or iterations
        if self.decay and end and iteration >= self.warmup:
            done = min((iteration - self.warmup) / max(end - self.warmup, 1), 1.0)
            factor *= 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        return factor

    def current_factor(self) -> float:
        """The weight at the runner's iteration. Without a runner, it is that of iteration 0."""
        hub = MessageHub.get_current_instance()
        return self.factor(hub.get_info("iter", 0), hub.get_info("max_iters", None))

    def bind(self, student: nn.Module, teacher: nn.Module) -> None:
        """Choose the modules to watch.

        Raises:
            DistillationError: If student and teacher do not have what the term compares.
        """
        raise NotImplementedError

    def measure(self, own: Captures, other: Captures) -> None:
        """Build what depends on widths. Both networks have just run on 64x64 pixels.

        Raises:
            DistillationError: If the feature maps cannot be compared.
        """

    def forward(self, step: Step) -> Tensor:
        """The loss without its weight."""
        raise NotImplementedError


class _PairTerm(Term):
    """Compares the feature maps of pairs of modules, and sums over the pairs."""

    part = ""

    def __init__(
        self,
        weight: float = 1.0,
        *,
        blocks: Blocks = "all",
        stages: Sequence[int] | None = None,
        **schedule: Any,
    ):
        super().__init__(weight, **schedule)
        self.blocks, self.stages = blocks, stages
        self.pairs: Pairs = []
        self.projections = nn.ModuleList()

    def bind(self, student: nn.Module, teacher: nn.Module) -> None:
        """Match the blocks."""
        self.pairs = match_blocks(student, teacher, self.blocks, self.stages, self.part)
        self.student_points = [a for a, _ in self.pairs]
        self.teacher_points = [b for _, b in self.pairs]

    def maps(self, own: Captures, other: Captures) -> list[tuple[Tensor, Tensor]]:
        """Pairs of feature maps, the student's first."""
        return [(own[a].output, other[b].output) for a, b in self.pairs]

    def measure(self, own: Captures, other: Captures) -> None:
        """Make one module per pair: a pointwise convolution if the widths differ, else identity."""
        maps = self.maps(own, other)
        check_maps(maps, self.pairs)
        self.projections = nn.ModuleList(
            nn.Identity()
            if a.shape[1] == b.shape[1]
            else nn.Conv2d(a.shape[1], b.shape[1], 1, device=a.device)
            for a, b in maps
        )

    def forward(self, step: Step) -> Tensor:
        """Sum of the mean squared errors. The student is projected where widths differ."""
        total = 0
        maps = self.maps(step.own, step.other)
        for (ours, theirs), projection in zip(maps, self.projections, strict=True):
            if isinstance(projection, nn.Conv2d):
                ours = projection(ours.to(projection.weight.dtype))
            total = total + imitation_loss(ours, at_size(theirs, ours))
        return total


class MixerImitation(_PairTerm):
    """Module imitation: compares what token mixers put out, before the residual is added.

    Args:
        weight: Factor of the loss, a sum over the matched blocks. Defaults to 1.
        blocks: Which blocks, see :func:`.matching.match_blocks`. Defaults to ``'all'``.
        stages: Which stages, from 0. Defaults to all.
        **schedule: ``warmup``, ``decay``, ``until`` of :class:`Term`.
    """

    part = "token_mixer"


class BlockImitation(_PairTerm):
    """Module imitation: compares what whole blocks put out.

    It takes the arguments of :class:`MixerImitation`.
    """


class Relation(_PairTerm):
    """Compares relations between positions, see :func:`.losses.relation_loss`.

    Args:
        weight: Factor of the loss, a sum over the matched blocks. Defaults to 1.
        of: What is compared: the output of the token ``'mixer'`` or of the ``'block'``. Defaults
            to ``'mixer'``.
        side: Greatest height and width that is compared. Defaults to 14.
        **settings: ``blocks`` and ``stages`` of :class:`MixerImitation`, and the schedule.
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        of: Literal["mixer", "block"] = "mixer",
        side: int = 14,
        **settings: Any,
    ):
        super().__init__(weight, **settings)
        if of not in ("mixer", "block"):
            raise DistillationError(f"of={of!r}: expected 'mixer' or 'block'")
        if side < 1:
            raise DistillationError(f"side={side}: expected positions, 1 or more")
        self.part = "token_mixer" if of == "mixer" and isinstance(self.blocks, str) else ""
        self.side = side

    def measure(self, own: Captures, other: Captures) -> None:
        """Compare the sizes alone, because cosines have no channels."""
        check_maps(self.maps(own, other), self.pairs)

    def forward(self, step: Step) -> Tensor:
        """Sum of the mean squared errors between cosines."""
        pairs = self.maps(step.own, step.other)
        return sum(relation_loss(a, at_size(b, a), self.side) for a, b in pairs)


class PyramidImitation(_PairTerm):
    """Hidden-state distillation: compares what the backbone, or the neck, puts out.

    Args:
        weight: Factor of the loss, a sum over the levels. Defaults to 1.
        of: ``'backbone'`` or ``'neck'``. Defaults to ``'backbone'``.
        **schedule: ``warmup``, ``decay``, ``until`` of :class:`Term`.
    """

    def __init__(
        self, weight: float = 1.0, *, of: Literal["backbone", "neck"] = "backbone", **schedule: Any
    ):
        if of not in ("backbone", "neck"):
            raise DistillationError(f"of={of!r}: expected 'backbone' or 'neck'")
        if unfit := schedule.keys() & {"blocks", "stages"}:
            raise DistillationError(f"pyramid takes no {', '.join(unfit)}: it compares all levels")
        super().__init__(weight, **schedule)
        self.of = of

    def bind(self, student: nn.Module, teacher: nn.Module) -> None:
        """Check that both models have this part."""
        for role, model in (("student", student), ("teacher", teacher)):
            if getattr(model, self.of, None) is None:
                raise DistillationError(f"the {role} {type(model).__name__} has no {self.of}")
        self.student_points = self.teacher_points = [self.of]

    def maps(self, own: Captures, other: Captures) -> list[tuple[Tensor, Tensor]]:
        """Levels, the student's first."""
        ours, theirs = own[self.of].output, other[self.of].output
        if len(ours) != len(theirs):
            raise DistillationError(
                f"the {self.of}s put out {len(ours)} and {len(theirs)} maps:\n"
                f"  student: {shapes(ours)}\n  teacher: {shapes(theirs)}\nGive both the same "
                "out_indices (neck: num_outs)"
            )
        self.pairs = [(f"{self.of}[{i}]",) * 2 for i in range(len(ours))]
        return list(zip(ours, theirs, strict=True))


def check_maps(maps: Sequence[tuple[Tensor, Tensor]], names: Pairs) -> None:
    """Raise DistillationError unless all are feature maps, and those of a pair have one size."""
    wrong = [
        i
        for i, (a, b) in enumerate(maps)
        if not all(isinstance(x, Tensor) and x.ndim == 4 for x in (a, b))
        or a.shape[2:] != b.shape[2:]
    ]
    if wrong:
        lines = "\n".join(
            f"  student {names[i][0]}: {shapes([maps[i][0]])}, "
            f"teacher {names[i][1]}: {shapes([maps[i][1]])}"
            for i in wrong
        )
        raise DistillationError(
            "student and teacher cannot be matched: expected maps [N, C, H, W] of the same H and "
            f"W, and a trial on 64x64 pixels gave\n{lines}\nMatch other modules by blocks="
        )


def shapes(values: Sequence[Any]) -> str:
    """Shapes for a message."""
    return ", ".join(
        str(list(v.shape)) if isinstance(v, Tensor) else type(v).__name__ for v in values
    )


def at_size(x: Tensor, like: Tensor) -> Tensor:
    """Resize to the size of another feature map: two networks may round odd sizes differently."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x.float(), like.shape[-2:], mode="bilinear", align_corners=False)
