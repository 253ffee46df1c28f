"""What a patch is: a target module, a condition, and a few lines that repair it."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Patch:
    """One repair: ``apply(module)`` where ``needed(module)``, once the module has run."""

    name: str
    needed: Callable[[ModuleType], bool]
    apply: Callable[[ModuleType], None]


#: Patches by the name of the module that they repair.
TARGETS: dict[str, list[Patch]] = {}


def patch(*targets: str, needed: Callable[[ModuleType], bool]) -> Callable:
    """Register the decorated function as a patch.

    Args:
        targets: Full names of the modules to repair.
        needed: Called with the loaded module; False leaves it alone (the versions at hand do
            not have the fault).
    """

    def register(apply: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        for target in targets:
            TARGETS.setdefault(target, []).append(Patch(apply.__name__, needed, apply))
        return apply

    return register


def apply_patches(module: ModuleType) -> None:
    """Apply what a module needs and note the names in its ``__patches__``.

    A patch that fails warns and is left out: this runs inside other people's imports, and a
    version that we have not seen may well do without it.
    """
    applied = []
    for one in TARGETS.get(module.__name__, ()):
        try:
            if one.needed(module):
                one.apply(module)
                applied.append(one.name)
        except Exception as error:
            warnings.warn(
                f"mmplugins could not apply its patch '{one.name}' to {module.__name__} "
                f"({type(error).__name__}: {error}); continuing without it.",
                stacklevel=2,
            )
    vars(module)["__patches__"] = tuple(applied)


def in_force() -> dict[str, tuple[str, ...]]:
    """Return the names of the applied patches by module, for bug reports and tests."""
    loaded = {name: sys.modules[name] for name in TARGETS if name in sys.modules}
    return {
        name: module.__patches__
        for name, module in loaded.items()
        if hasattr(module, "__patches__")
    }


def rebind(module: ModuleType, name: str, new: Any) -> None:
    """Replace ``module.name``, also where other loaded modules have imported it before."""
    old = getattr(module, name)
    for other in list(sys.modules.values()):
        names: dict[str, Any] = getattr(other, "__dict__", {})
        for key in [key for key, value in list(names.items()) if value is old]:
            names[key] = new


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give ``owner.name`` another value for the length of a ``with`` block."""
    old = vars(owner)[name] if name in vars(owner) else getattr(owner, name)  # also static methods
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)
