"""MetaFormer backbones for dense prediction on the OpenMMLab tools."""

from . import compat
from .version import __version__

# OpenMMLab itself must be whole and mended before anything below may import it.
compat.require_one_line()
compat.install()

from . import (  # noqa: E402, F401 - registers what configs name
    checkpoint,
    deployment,
    distillation,
    engine,
)
from .backbones import TOKEN_MIXERS, build_backbone, list_backbones  # noqa: E402

__all__ = ["TOKEN_MIXERS", "__version__", "build_backbone", "list_backbones"]
