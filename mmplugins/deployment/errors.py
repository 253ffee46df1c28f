"""The error of an export, and of a package that is not installed."""

import importlib.util


class ExportError(ValueError):
    """A model that cannot be exported, or whose file computes something else; says which part."""


def require(extra: str, *packages: str) -> None:
    """Raise :class:`ExportError` if a package is not installed, with the way to install it."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ExportError(f"{name} is not installed: pip install mmplugins[{extra}]")
