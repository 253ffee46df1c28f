"""Writing figures: without a display, and never half."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from mmplugins.utils import written_aside


def save_figure(figure: Figure, path: str | os.PathLike, dpi: int) -> Path:
    """Write a figure beside ``path`` and rename it when complete; returns ``path``."""
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=dpi, format=Path(path).suffix[1:] or "png")
    return Path(path)
