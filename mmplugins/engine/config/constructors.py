"""What the ``type`` of a config dict stands for, and which arguments that takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.registry import Registry


def class_of(registry: Registry, cfg: Mapping[str, Any], scope: str | None = None) -> Any:
    """The class or function that a config dict names, or None if there is none.

    Args:
        registry: Where names are looked up.
        cfg: A dict with a ``type``, which may be the class itself.
        scope: Scope of bare names; ``_scope_`` in the dict goes first. Defaults to None, the
            scope in force.
    """
    kind = cfg.get("type")
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    try:
        with registry.switch_scope_and_registry(cfg.get("_scope_", scope)) as scoped:
            return scoped.get(kind)
    # Of mmengine, for "a.b.C" without a C in a.b; of Python, for what is no name of a module.
    except (AttributeError, ImportError, RuntimeError, TypeError, ValueError):
        return None


def accepted_arguments(cls: Any) -> set[str]:
    """Names of the arguments of a class or function, looked up through ``**kwargs``."""
    if not inspect.isclass(cls):
        return {*inspect.signature(cls).parameters} - {"self"} if callable(cls) else set()
    names: set[str] = set()
    bases: tuple[Any, ...] = cls.__mro__
    for base in bases:
        if "__init__" not in vars(base):
            continue
        try:
            parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        except ValueError:  # written in C
            break
        kinds = {p.kind for p in parameters}
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return names
