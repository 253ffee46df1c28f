"""What is wrong with a weight file, in a message of bounded length."""

from __future__ import annotations

_MESSAGE = 4000
"""Characters of a message at most."""


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message names it, the reason and the remedy.

    However long the names in a file are, the message is not.
    """

    def __init__(self, message: object = ""):
        text = str(message)
        shown = text if len(text) <= _MESSAGE else f"{text[: _MESSAGE // 2]} ... {text[-300:]}"
        super().__init__(shown)


class UnsafeCheckpointError(CheckpointError):
    """A weight file that wants more than tensors and was therefore not opened."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """A weight file that is not there, or is a folder."""


WAYS_OUT = (
    "Ask its author for a state dict or safetensors. Only if you trust the author as you trust "
    "your own code: allow_unsafe=True, or `python tools/weights.py convert --allow-unsafe` once"
)
