"""The embedded shapes data set.

The registered data set types live in `shapes_detection` and `shapes_segmentation`, which import
mmdet and mmseg; a config that names them by their import path loads the one it needs.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from .shapes import METAINFO, ShapesSpec, make_shapes

__all__ = ["METAINFO", "ShapesSpec", "make_shapes"]


def __getattr__(name: str) -> Any:
    """Names that moved to :mod:`mmplugins.checks`; version 0.3 will not look for them here."""
    if name not in ("DataError", "Finding", "check_data"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"mmplugins.datasets.{name} is now mmplugins.checks.{name}", FutureWarning, stacklevel=2
    )
    return getattr(import_module("mmplugins.checks"), name)
