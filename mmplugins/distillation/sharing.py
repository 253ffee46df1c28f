"""Shared modules: the student has its teacher's weights there, frozen, for example in the head.

The student then learns what comes before the module, so that it fits the teacher's head. For
classifiers this is the reused classifier of Chen et al., "Knowledge Distillation with the Reused
Teacher Classifier", CVPR 2022, arXiv 2203.14001.

The values are copied, and the tensors are the student's own. So a model with shared modules is
copied, saved, moved and distributed as any other, and the student is complete without its teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmplugins.utils import did_you_mean

from .errors import DistillationError

SHOWN = 4
"""Tensors named in a message."""


def check_shared(
    student: nn.Module, teacher: nn.Module, share: str | Sequence[str]
) -> tuple[str, ...]:
    """Check that student and teacher have these modules with the same tensors.

    Args:
        student: Detector or segmentor.
        teacher: The same.
        share: Names as in ``named_modules()``, for example ``'decode_head'``; or one such name.

    Returns:
        The names.

    Raises:
        DistillationError: If one of the two has no such module, if the tensors in it differ, or if
            the student would have nothing to learn.
    """
    names = (share,) if isinstance(share, str) else tuple(share)
    for name in names:
        parts = []
        for role, model in (("student", student), ("teacher", teacher)):
            known = dict(model.named_modules())
            if not name or name not in known:
                raise DistillationError(
                    f"share={list(names)}: the {role} {type(model).__name__} has no module "
                    f"{name!r}, expected a name of named_modules().{did_you_mean(name, known)}\n"
                    f"{_listed('student', student)}\n{_listed('teacher', teacher)}"
                )
            parts.append({key: tuple(t.shape) for key, t in known[name].state_dict().items()})
        _compare(name, *parts)
    within = tuple(f"{name}." for name in names)
    learning = [key for key, p in student.named_parameters() if p.requires_grad]
    if names and all(key.startswith(within) for key in learning):
        raise DistillationError(
            f"share={list(names)} leaves the student nothing to learn: share fewer modules"
        )
    return names


def still(student: nn.Module, share: Sequence[str]) -> None:
    """Bring norms and dropouts of the shared modules into eval mode.

    The modules around them keep their mode, because some heads put out something else in training.
    """
    for name in share:
        for module in student.get_submodule(name).modules():
            if not list(module.children()):
                module.eval()


def copy_shared(student: nn.Module, teacher: nn.Module, share: Sequence[str]) -> None:
    """Copy the teacher's values of the shared modules, buffers included, to the student."""
    for name in share:
        student.get_submodule(name).load_state_dict(teacher.get_submodule(name).state_dict())


def _compare(name: str, ours: dict[str, tuple], theirs: dict[str, tuple]) -> None:
    """Raise DistillationError unless the two have the same tensors."""
    differ = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if differ:
        lines = "\n".join(
            f"  {name}.{key}: student {_shape(ours.get(key))}, teacher {_shape(theirs.get(key))}"
            for key in differ[:SHOWN]
        )
        more = f"\n  ... and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        raise DistillationError(
            f"share: {name} of student and teacher has not the same tensors:\n{lines}{more}\nGive "
            "both the same config there, or do not share it"
        )


def _shape(shape: tuple | None) -> str:
    return "none" if shape is None else str(list(shape))


def _listed(role: str, model: nn.Module) -> str:
    return f"  {role}: {', '.join(name for name, _ in model.named_children())}"
