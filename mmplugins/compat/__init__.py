"""What OpenMMLab needs to run on today's PyTorch: a stand-in for ``mmcv._ext`` and the patches.

``install`` puts both in force, early or late, any number of times. It runs when mmplugins is
imported, and through the start-up hook (``hook/mmplugins_hook.py``) in every process that
imports mmengine or mmcv. This package imports only the standard library until OpenMMLab
itself is loaded. Of the rest of mmplugins it knows one name: the reader of configs in checkpoints,
which it imports when an inferencer of mmengine is built.
"""

from .finder import install
from .lines import require_one_line
from .patches import in_force

__all__ = ["in_force", "install", "require_one_line"]
