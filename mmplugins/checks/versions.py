"""Which packages are at work, and on what device."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.registry import MODELS

from mmplugins.compat.lines import installed_lines
from mmplugins.engine.config.constructors import class_of

from .explain import SCOPES
from .inspection import Inspection

_PACKAGES = {"mmdet": "mmdet", "mmseg": "mmsegmentation"}


def check_versions(inspection: Inspection) -> str:
    """Versions of everything that takes part; the packages of the config's scope must load."""
    for module in ("mmengine", "mmcv", *{inspection.scope} & set(_PACKAGES)):
        try:
            import_module(module)
        except (ImportError, AssertionError) as error:  # mmdet asserts the version of mmcv
            package = _PACKAGES.get(module, module)
            inspection.fail(
                f"{module} does not load, {error}: install the versions that belong together, "
                f"pip install 'mmplugins[openmmlab]' (it brings {package})",
                "default_scope",
            )
            return ""
    scope = inspection.scope
    if scope != "mmengine" and MODELS._search_child(scope) is None and find_spec(scope) is None:
        inspection.fail(
            f"is {inspection.scope!r}, and there is no such package: expected 'mmdet' or 'mmseg'",
            "default_scope",
        )
        return ""
    kind = inspection.trained[1].get("type")
    if isinstance(kind, str) and "." not in kind:
        there = [s for s in (inspection.scope, *SCOPES) if class_of(MODELS, dict(type=kind), s)]
        other = there[0] if there and there[0] != inspection.scope else None
        if other:
            inspection.fail(
                f"is {inspection.cfg.get('default_scope')!r}, but model.type {kind!r} belongs to "
                f"{other}: set default_scope={other!r}",
                "default_scope",
            )
            return ""
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "timm", "mmengine", "mmcv", inspection.scope):
        try:
            found.append(f"{name} {import_module(name).__version__}")
        except (ImportError, AttributeError):
            continue
    lines = " and ".join(installed_lines()) or "source tree"
    return f"{', '.join(found)}; line {lines}; operators {_operators()}; device {_device()}"


def _operators() -> str:
    """Whether mmcv's compiled operators are at work or the stand-in."""
    import mmcv._ext

    compiled = Path(mmcv._ext.__file__).suffix != ".py"
    return "compiled with mmcv" if compiled else "of mmplugins' stand-in"


def _device() -> str:
    if not torch.cuda.is_available():
        return get_device()
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
