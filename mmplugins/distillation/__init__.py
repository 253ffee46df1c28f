"""Distillation: a student learns beside a frozen teacher, in any detector or segmentor."""

from .distiller import TERMS, Distiller
from .errors import DistillationError
from .export import export_student, plain_student
from .inheritance import inherit

__all__ = [
    "TERMS",
    "DistillationError",
    "Distiller",
    "export_student",
    "inherit",
    "plain_student",
]
