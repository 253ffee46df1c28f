"""The patches: small repairs of OpenMMLab modules, one function each, one file per subject.

Importing a file registers its patches. They are imported below this package, never as ``from .
import packages``: that form makes Python import ``mmplugins`` itself, which the start-up hook
avoids.
"""

from importlib import import_module

from .patch import TARGETS, apply_patches, in_force

__all__ = ["TARGETS", "apply_patches", "in_force"]

for _subject in (
    "checkpoints",
    "code_in_files",
    "complexity",
    "distributed",
    "heads",
    "loading",
    "packages",
    "precision",
):
    import_module(f"{__name__}.{_subject}")
