"""From a trained model to one that is fast at inference."""

from typing import Any

from .deploy_hook import DeployHook
from .equality import largest_difference, raw_outputs
from .reparameterize import follow_the_file, reparameterize

__all__ = [
    "DeployHook",
    "follow_the_file",
    "largest_difference",
    "load_exported",
    "raw_outputs",
    "reparameterize",
]


def __getattr__(name: str) -> Any:
    """``load_exported``, whose libraries are loaded when it is first asked for."""
    if name == "load_exported":
        from .runtime import load_exported

        return load_exported
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
