"""MetaFormer backbones for dense prediction on the OpenMMLab tools."""

from . import compat
from .version import __version__

# OpenMMLab itself must be whole and mended before anything below may import it.
compat.require_one_line()
compat.install()

from . import backbones, checkpoint, engine  # noqa: E402, F401 - registers what configs name

__all__ = ["__version__"]
