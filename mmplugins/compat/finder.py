"""How the stand-in for ``mmcv._ext`` and the patches get in: two finders on ``sys.meta_path``."""

import copy
import sys
import warnings
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

from .patches import TARGETS, apply_patches

EXTENSION = "mmcv._ext"
STAND_IN = Path(__file__).with_name("ops") / "__init__.py"


class StandInFinder:
    """Serves ``mmcv._ext`` from ``compat/ops``. Stands last, so that a compiled one wins."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        """Return the spec of the stand-in for ``mmcv._ext``, None for any other name."""
        if name != EXTENSION:
            return None
        # By place, not as `mmplugins.compat.ops`: that would run `mmplugins/__init__.py`.
        return spec_from_file_location(
            name, STAND_IN, submodule_search_locations=[str(STAND_IN.parent)]
        )


class PatchFinder:
    """Lets the other finders find a module and patches it as soon as it ran. Stands first."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        """Return what the other finders found for a module with patches, None for the rest."""
        if name not in TARGETS:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec is not None:
                return _patched_on_load(spec)
        return None


def _patched_on_load(spec: ModuleSpec) -> ModuleSpec:
    # A copy, because some loaders (zipimport) serve many modules with one object.
    loader: Any = copy.copy(spec.loader)
    execute = loader.exec_module

    def execute_and_patch(module):
        execute(module)
        apply_patches(module)

    loader.exec_module = execute_and_patch
    spec.loader = loader
    return spec


def install() -> None:
    """Put the stand-in and the patches in force, now and for every later import.

    Safe to call again, and safe late: modules that are loaded already are patched in place,
    names imported from them elsewhere included.
    """
    if not any(isinstance(finder, PatchFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PatchFinder())
    if not any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(StandInFinder())
        if "mmdet.models" in sys.modules and "mmcv.ops" not in sys.modules:
            # Only onedl's mmdet loads without ops; it keeps functions that raise instead.
            warnings.warn(
                "mmdet was imported before mmplugins and has no operators now. Import "
                "mmplugins first, or reinstall it so that its start-up hook is active.",
                stacklevel=2,
            )
    for name in TARGETS:
        module = sys.modules.get(name)
        if module is not None and not hasattr(module, "__patches__"):
            apply_patches(module)
