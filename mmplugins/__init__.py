"""MetaFormer backbones for dense prediction on the OpenMMLab tools."""

from typing import Any

from . import compat
from .version import __version__

# OpenMMLab itself must be whole and patched before anything below may import it.
compat.require_one_line()
compat.install()

from . import (  # noqa: E402, F401 - registers what configs name
    checkpoint,
    deployment,
    distillation,
    engine,
)
from .backbones import (  # noqa: E402
    TOKEN_MIXERS,
    MetaFormer,
    PyramidBackbone,
    build_backbone,
    list_backbones,
)
from .checkpoint import load_weights  # noqa: E402
from .engine import compile_blocks, compose  # noqa: E402

__all__ = [
    "TOKEN_MIXERS",
    "MetaFormer",
    "PyramidBackbone",
    "__version__",
    "build_backbone",
    "compile_blocks",
    "compose",
    "list_backbones",
    "load_model",
    "load_weights",
    "predict",
]

_LATER = ("load_model", "predict")
"""Of the inference room, which is loaded when one of them is first asked for."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from . import inference

        return getattr(inference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
