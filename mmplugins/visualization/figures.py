"""Writing figures: without a display, and never half."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure


def save_figure(figure: Figure, path: str | os.PathLike, dpi: int) -> Path:
    """Write a figure beside ``path`` and rename it when complete; returns ``path``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")  # the ending stays, it names the format
    figure.savefig(partial, dpi=dpi)
    os.replace(partial, path)
    return path
