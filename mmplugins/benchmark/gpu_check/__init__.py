"""One run for a card: what works, how exact it is, and how fast, the most telling first."""

from .check import PARTS, Settings, run_check

__all__ = ["PARTS", "Settings", "run_check"]
