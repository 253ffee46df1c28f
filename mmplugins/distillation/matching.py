"""Which block of the teacher a block of the student imitates.

Blocks are matched within stages. If a stage has the same depth in both networks, block j imitates
block j. Otherwise each block of the shallower stage has one partner: the block at which the deeper
stage is as far along. Counted from 1, block k of n has the partner ceil(k * m / n) of m, and the
last blocks are always partners. So 2 blocks imitate blocks 2 and 3 of 3. And 6 blocks imitate
blocks 2, 3, 5, 6, 8, 9 of 9 (S12 and S18).

RIFormer's paper does not say which layers it matches. So other pairs can be chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from mmplugins.utils import few

from .errors import DistillationError

Pairs = list[tuple[str, str]]
Blocks = Literal["all", "last"] | Sequence[Sequence[str]]


def matched_depths(student: int, teacher: int) -> list[tuple[int, int]]:
    """Pairs of block numbers, from 0, in a stage of these depths, by the rule above."""
    few, many = sorted((student, teacher))
    pairs = [(k, -(-(k + 1) * many // few) - 1) for k in range(few)]
    return pairs if student == few else [(a, b) for b, a in pairs]


def blocks_by_stage(backbone: nn.Module) -> list[list[str]]:
    """Names of a backbone's blocks, stage by stage.

    Two forms are known: ``stages[i].blocks`` (this suite, Swin), and ``layer1`` ... of ResNets. The
    list is empty for any other form.
    """
    if hasattr(backbone, "res_layers"):
        return [
            [f"{layer}.{j}" for j in range(len(getattr(backbone, layer)))]
            for layer in backbone.res_layers
        ]
    stages = getattr(backbone, "stages", None)
    if not isinstance(stages, nn.ModuleList | nn.Sequential):
        return []
    if not all(isinstance(getattr(stage, "blocks", None), nn.Module) for stage in stages):
        return []
    return [
        [f"stages.{i}.blocks.{name}" for name, _ in stage.blocks.named_children()]
        for i, stage in enumerate(stages)
    ]


def match_blocks(
    student: nn.Module,
    teacher: nn.Module,
    blocks: Blocks = "all",
    stages: Sequence[int] | None = None,
    part: str = "",
) -> Pairs:
    """Pairs of module names, as in ``named_modules()`` of the detectors or segmentors.

    Args:
        student: Detector or segmentor with a ``backbone``.
        teacher: The same.
        blocks: ``'all'`` blocks by the rule above, the ``'last'`` of each stage, or a list of pairs
            of names ``(student's module, teacher's module)``, which are taken as they are.
        stages: Stages from 0. Defaults to all.
        part: Module within each block whose output counts, for example ``'token_mixer'``.
            Defaults to the block itself.

    Raises:
        DistillationError: If the two cannot be matched; both lists are in the message.
    """
    if not isinstance(blocks, str):
        return _named_pairs(student, teacher, blocks)
    if blocks not in ("all", "last"):
        raise DistillationError(
            f"blocks={blocks!r}: expected 'all', 'last' or a list of pairs of module names"
        )
    ours, theirs = (blocks_by_stage(model.backbone) for model in (student, teacher))
    lists = f"{_listed('student', student, ours)}\n{_listed('teacher', teacher, theirs)}"
    if not ours or not theirs or len(ours) != len(theirs):
        raise DistillationError(
            f"student and teacher cannot be matched by stages:\n{lists}\nChoose backbones of the "
            "same number of stages (out_indices), or give blocks= as pairs of module names"
        )
    chosen = range(len(ours)) if stages is None else stages
    if any(i not in range(len(ours)) for i in chosen):
        raise DistillationError(
            f"stages={list(chosen)}: expected numbers from 0 to {len(ours) - 1}\n{lists}"
        )
    pairs = []
    for i in chosen:
        depths = matched_depths(len(ours[i]), len(theirs[i]))
        for a, b in depths if blocks == "all" else depths[-1:]:
            names = (f"backbone.{ours[i][a]}", f"backbone.{theirs[i][b]}")
            mine, its = (f"{name}.{part}" if part else name for name in names)
            pairs.append((mine, its))
    for model, side in ((student, 0), (teacher, 1)):
        _require(model, [pair[side] for pair in pairs], part, lists)
    return pairs


def _named_pairs(student: nn.Module, teacher: nn.Module, blocks: Sequence) -> Pairs:
    pairs = [tuple(pair) for pair in blocks]
    if not pairs or any(
        len(p) != 2 or not all(isinstance(name, str) and name for name in p) for p in pairs
    ):
        raise DistillationError(
            f"blocks={list(blocks)!r}: expected pairs (name in the student, name in the teacher)"
        )
    lists = "\n".join(
        _listed(role, model, blocks_by_stage(model.backbone))
        for role, model in (("student", student), ("teacher", teacher))
    )
    _require(student, [a for a, _ in pairs], "", lists)
    _require(teacher, [b for _, b in pairs], "", lists)
    return pairs


def _require(model: nn.Module, names: Sequence[str], part: str, lists: str) -> None:
    known = {name for name, _ in model.named_modules()}
    absent = [name for name in names if name not in known]
    if absent:
        remedy = (
            f"its blocks have no {part}: leave the term out, or match blocks as a whole"
            if part
            else "see the names of model.named_modules()"
        )
        raise DistillationError(
            f"{type(model).__name__} with {type(model.backbone).__name__} has no module "
            f"{few(absent, 3)}: {remedy}\n{lists}"
        )


def _listed(role: str, model: nn.Module, blocks: list[list[str]]) -> str:
    name = type(model.backbone).__name__
    if not blocks:
        parts = ", ".join(child for child, _ in model.backbone.named_children())
        return f"  {role}: {name}, stages not known; its parts are {parts}"
    stages = "; ".join(f"stage {i}: {', '.join(names)}" for i, names in enumerate(blocks))
    return f"  {role}: {name}, {stages}"
