"""The model wrapper: a student that trains beside a frozen teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmplugins.utils import did_you_mean

from .captures import Captures, stay_visible
from .errors import DistillationError
from .inheritance import inherit as inherit_from
from .responses import AnchorScores, PixelScores, RegionScores
from .sharing import check_shared, copy_shared, still
from .teacher import ModelSpec, build_teacher, check_pair, read_teacher
from .terms import BlockImitation, MixerImitation, PyramidImitation, Relation, Step, Term

TERMS: dict[str, type[Term]] = {
    "mixer": MixerImitation,
    "block": BlockImitation,
    "relation": Relation,
    "pyramid": PyramidImitation,
    "pixel_scores": PixelScores,
    "anchor_scores": AnchorScores,
    "region_scores": RegionScores,
}
"""Terms by the name they have in configs and, after ``loss_distill_``, in logs."""

STUDENT, OWN = "student.", "terms."
TRIAL_SIZE = (1, 3, 64, 64)


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains any detector of mmdet or segmentor of mmseg with a frozen teacher beside it.

    The method is that of J. Wang et al., "RIFormer: Keep Your Vision Backbone Effective But
    Removing Token Mixer", CVPR 2023, arXiv 2304.05659, here for dense tasks. The loss is the
    student's own plus the weighted ``terms``. Prediction and data preprocessing are the student's.

    The teacher runs once per step, on the student's batch. It is no submodule. So it is in no
    checkpoint, optimiser, moving average or bucket of distributed training. It does move with the
    model (``.to()``, ``.half()``). A deep copy shares the teacher until the copy is moved.

    In a checkpoint, the student's weights have the names of the plain model, which can load the
    file. The projections of terms, if there are any, have names below ``terms.``.

    Args:
        student: Config dict of the student, or the model itself.
        teacher: Config dict of the teacher, path of its config file, or the model itself.
        terms: Settings of each term by its name in :data:`TERMS`.
        teacher_checkpoint: Weights of the whole teacher. A training reads them when it initialises
            weights, and a test does not need them. Defaults to None, which is refused unless
            ``untrained_teacher`` is True or the teacher is given as a model.
        untrained_teacher: Let the teacher start as its own config says (``init_cfg``), for example
            with a backbone from ImageNet and random heads. Defaults to False.
        inherit: Copy the teacher's weights to the student, but for token mixers, after the
            student's own ``init_cfg``. Defaults to False.
        share: Names of modules of the student, for example ``('decode_head',)``. They get the
            teacher's weights when weights are initialised, and are never trained. Their norms and
            dropouts run in eval mode, see :mod:`.sharing`. Defaults to none.

    Raises:
        DistillationError: If the two do not go together; the message says in which way.
    """

    def __init__(
        self,
        student: Mapping | nn.Module,
        teacher: ModelSpec,
        terms: Mapping[str, Mapping],
        teacher_checkpoint: str | None = None,
        *,
        untrained_teacher: bool = False,
        inherit: bool = False,
        share: str | Sequence[str] = (),
    ):
        built = isinstance(teacher, nn.Module)
        if not teacher_checkpoint and not untrained_teacher and not built:
            raise DistillationError(
                "teacher_checkpoint is missing: name the weights of the teacher, or say "
                "untrained_teacher=True if it is to start as its own init_cfg says"
            )
        student = student if isinstance(student, nn.Module) else MODELS.build(student)
        teacher = build_teacher(teacher)
        check_pair(student, teacher)
        share = check_shared(student, teacher, share)
        super().__init__(getattr(student, "data_preprocessor", None))
        self.student = student
        # Past nn.Module, which would make it a submodule.
        self.__dict__["teacher"] = teacher
        self.teacher_checkpoint = teacher_checkpoint
        self.untrained_teacher, self.inherit, self.share = untrained_teacher, inherit, share
        self._teacher_ready = built and not (teacher_checkpoint or untrained_teacher)
        self._borrows_teacher = False
        self.terms = nn.ModuleDict(_build_terms(terms, student, teacher))
        self._measure()
        if getattr(student.backbone, "with_cp", False):
            for name in _union(term.student_points for term in self.terms.values()):
                student.get_submodule(name).register_forward_hook(stay_visible)
        self._register_state_dict_hook(_name_as_plain_model)  # the public name is of torch 2.5
        self.register_load_state_dict_post_hook(_share_after_loading)
        for name in share:
            student.get_submodule(name).requires_grad_(False)
        still(student, share)
        self._take_shared()

    def init_weights(self) -> None:
        """Initialise the student, load the teacher, and let the student inherit if asked to.

        Raises:
            DistillationError: If the teacher's weights are not there or do not fit.
        """
        super().init_weights()
        if not self._teacher_ready:
            if self.untrained_teacher and hasattr(self.teacher, "init_weights"):
                self.teacher.init_weights()
            if self.teacher_checkpoint:
                weights = read_teacher(self.teacher, self.teacher_checkpoint)
                self.teacher.load_state_dict(weights, strict=False)
            self._teacher_ready = True
        if self.inherit:
            print_log(f"\n{inherit_from(self.student, self.teacher)}", "current")
        self._take_shared()

    def check_teacher(self) -> None:
        """Read ``teacher_checkpoint`` and compare it with the teacher, without loading it.

        Raises:
            DistillationError: If the file is not there or does not fit.
        """
        if self.teacher_checkpoint:
            read_teacher(self.teacher, self.teacher_checkpoint)

    def train(self, mode: bool = True) -> Distiller:
        """Set the mode. Norms and dropouts of shared modules stay in eval mode."""
        super().train(mode)
        still(self.student, self.share)
        return self

    def _take_shared(self) -> None:
        """Give shared modules the teacher's values, if it has any yet."""
        if self._teacher_ready:
            copy_shared(self.student, self.teacher, self.share)

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor"
    ) -> dict[str, Tensor] | list | tuple | Tensor:
        """Run the student. With ``mode='loss'``, the terms of distillation are added.

        Args:
            inputs: Pictures ``[N, 3, H, W]``.
            data_samples: Annotations and sizes. Defaults to None.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``. Defaults to ``'tensor'``.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples or [])
        return self.student(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The student's losses, and ``loss_distill_<term>`` for each term, weighted.

        A term is computed also while its weight is 0. Otherwise its projection would have no
        gradient, which distributed training refuses.

        Raises:
            DistillationError: If the teacher has no weights yet.
        """
        if not self._teacher_ready:
            raise DistillationError(
                "the teacher has no weights yet: call init_weights() first, as a runner does"
            )
        terms = self.terms.values()
        with Captures(self.student, _union(term.student_points for term in terms)) as own:
            losses = dict(self.student.loss(inputs, data_samples))
        points = _union(term.teacher_points for term in terms)
        with torch.no_grad(), Captures(self.teacher, points) as other:
            features = self.teacher.extract_feat(inputs)
        step = Step(self.student, self.teacher, own, other, features, data_samples)
        for name, term in self.terms.items():
            losses[f"loss_distill_{name}"] = term.current_factor() * term(step)
        return losses

    def _measure(self) -> None:
        """Run both networks on a blank picture, so that the terms see shapes."""
        terms = self.terms.values()
        watched = (
            (self.student, _union(term.student_points for term in terms)),
            (self.teacher, _union(term.teacher_points for term in terms)),
        )
        trained = self.student.training
        self.student.eval()
        calls = []
        for model, points in watched:
            within = [p for p in points if p.split(".")[0].split("[")[0] in ("backbone", "neck")]
            blank = torch.zeros(TRIAL_SIZE, device=next(model.parameters()).device)
            with torch.no_grad(), Captures(model, within) as captures:
                model.extract_feat(blank)
            calls.append(captures)
        self.student.train(trained)
        for term in terms:
            term.measure(*calls)

    def _apply(self, fn: Callable, recurse: bool = True) -> Distiller:
        """Move or convert the teacher as well. A shared one is copied first."""
        super()._apply(fn, recurse)
        if self._borrows_teacher:
            self.__dict__["teacher"] = copy.deepcopy(self.teacher)
            self._borrows_teacher = False
        self.teacher._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict) -> Distiller:
        """Copy all but the teacher. The teacher never changes, so the copy shares it."""
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        memo[id(self.teacher)] = self.teacher
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        clone._borrows_teacher = True
        return clone

    def __getattr__(self, name: str) -> Any:
        """Look up in the student what is not here, such as ``with_mask`` and ``out_channels``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            student = self.__dict__.get("_modules", {}).get("student")
            if student is None or name.startswith("_"):
                raise
            return getattr(student, name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Turn the names of the plain model into those of this one."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key[len(prefix) :]
            if not name.startswith((OWN, STUDENT)):
                state_dict[f"{prefix}{STUDENT}{name}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _share_after_loading(module: Distiller, incompatible: object) -> None:
    """Give shared modules the teacher's values again, whatever was loaded."""
    module._take_shared()


def _name_as_plain_model(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: dict
) -> None:
    """Remove ``student.`` from the names, in place. The order stays."""
    start = prefix + STUDENT
    for key in list(state_dict):
        value = state_dict.pop(key)
        state_dict[prefix + key[len(start) :] if key.startswith(start) else key] = value
    versions = getattr(state_dict, "_metadata", {})
    for key in [key for key in versions if key.startswith(start)]:
        versions[prefix + key[len(start) :]] = versions[key]


def _build_terms(
    settings: Mapping[str, Mapping], student: nn.Module, teacher: nn.Module
) -> dict[str, Term]:
    if not settings:
        raise DistillationError(f"terms is empty: expected one or more of {', '.join(TERMS)}")
    terms = {}
    for name, arguments in settings.items():
        if name not in TERMS:
            raise DistillationError(
                f"unknown term {name!r}: expected {', '.join(TERMS)}.{did_you_mean(name, TERMS)}"
            )
        try:
            terms[name] = TERMS[name](**arguments)
        except TypeError as error:
            raise DistillationError(f"terms.{name}={dict(arguments)}: {error}") from error
        terms[name].bind(student, teacher)
    return terms


def _union(names: Sequence[Sequence[str]] | Any) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))
