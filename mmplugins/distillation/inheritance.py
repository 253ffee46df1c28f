"""Partial inheritance: the student starts with its teacher's weights, but for token mixers."""

from __future__ import annotations

from torch import nn

from mmplugins.backbones import PyramidBackbone
from mmplugins.checkpoint import MatchReport
from mmplugins.checkpoint.fitting import match_model

from .errors import DistillationError

MIXER = ".token_mixer."


def inherit(student: nn.Module, teacher: nn.Module) -> MatchReport:
    """Copy the teacher's weights to the student, neck and heads included, but for token mixers.

    RIFormer calls this partial loading. PoolFormer's mixer has no parameters, so a student of
    PoolFormer gets all of its weights.

    Args:
        student: Detector or segmentor. Its token mixers stay as they are.
        teacher: A detector or segmentor with the same blocks.

    Returns:
        The report. If an error is raised, the student stays as it was.

    Raises:
        DistillationError: If something else of the student is not in the teacher, or has another
            shape there.
    """
    if not isinstance(student.backbone, PyramidBackbone):
        raise DistillationError(
            f"inherit=True: {type(student.backbone).__name__} is no backbone of mmplugins, and "
            "its token mixers are not known: use inherit=False and init_cfg"
        )
    given = {key: value for key, value in teacher.state_dict().items() if MIXER not in key}
    name = f"the teacher, {type(teacher).__name__} with {type(teacher.backbone).__name__}"
    report, fitted = match_model(student, given, name)
    own_mixers = [key for key in report.missing if MIXER in key]
    report.missing = [key for key in report.missing if key not in own_mixers]
    report.absent |= dict.fromkeys(own_mixers, "starts afresh: the student's own token mixer")
    if problems := report.problems(whole=True):
        lines = "\n  ".join(problems)
        raise DistillationError(
            f"inherit=True: {name}, does not fit the student, {type(student).__name__} with "
            f"{type(student.backbone).__name__}:\n  {lines}\nTake a teacher that differs in the "
            "token mixer only, or inherit=False and weights by the student's init_cfg"
        )
    student.load_state_dict(fitted, strict=False)
    return report
