"""What a row of a benchmark is, by one short text: ``caformer_s18:deploy,channels_last,bf16``.

``NAME[:OPTION,...]``, where NAME is

* a backbone: a name of ``list_backbones()``, ``timm/<model>`` or ``mmpretrain/<name>``;
* a whole model: a config file, or ``CONFIG.py@BACKBONE`` for that recipe around another backbone;

and an OPTION one of :data:`OPTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from mmplugins.utils import did_you_mean

OPTIONS = {
    "deploy": "folded by switch_to_deploy(); inference only",
    "channels_last": "weights and images channels-last in memory",
    "compile": "the backbone compiled: ours by block, those of timm and mmpretrain whole",
    "bf16": "bfloat16: weights and images of a backbone at inference, autocast elsewhere",
    "fp16": "float16, likewise; in training without loss scaling",
    "with_cp": "activation checkpointing in training",
}
"""Options of a row and what they mean. Without any: float32, contiguous, eager, as trained."""

TIMM, MMPRETRAIN = "timm/", "mmpretrain/"


@dataclass(frozen=True)
class Row:
    """A backbone or whole model in one form.

    Attributes:
        name: Backbone, or config file.
        backbone: Backbone to put into the config instead of its own, or ``''``.
        deploy: Folded.
        channels_last: Channels-last.
        compile: Compiled.
        bf16: In bfloat16.
        fp16: In float16.
        with_cp: With activation checkpointing.
    """

    name: str
    backbone: str = ""
    deploy: bool = False
    channels_last: bool = False
    compile: bool = False
    bf16: bool = False
    fp16: bool = False
    with_cp: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The options that are on, in the order of :data:`OPTIONS`."""
        return tuple(option for option in OPTIONS if getattr(self, option))

    @property
    def whole(self) -> bool:
        """Whether the name is a config file."""
        return self.name.endswith(".py")

    @property
    def label(self) -> str:
        """The row's text in its one standard form."""
        name = f"{self.name}@{self.backbone}" if self.backbone else self.name
        return ":".join([name, ",".join(self.options)]) if self.options else name

    @property
    def plain(self) -> Row:
        """The same without options: the same weights."""
        return Row(self.name, self.backbone)

    @property
    def dtype(self) -> str:
        """``'float32'``, ``'bfloat16'`` or ``'float16'``."""
        return "bfloat16" if self.bf16 else "float16" if self.fp16 else "float32"


def parse_row(text: str) -> Row:
    """Read a row from its text.

    Raises:
        ValueError: If an option is unknown or two exclude each other, or there is no name.
    """
    name, colon, rest = text.rpartition(":")
    if not colon or "/" in rest or "\\" in rest:  # the colon of a Windows drive
        name, rest = text, ""
    name, _, backbone = name.partition("@")
    if not name:
        raise ValueError(f"{text!r}: expected NAME or NAME:OPTION,..., for example 'caformer_s18'")
    return with_options(Row(name, backbone), rest)


def with_options(row: Row, options: str) -> Row:
    """A row with further options, given as ``'deploy,bf16'``; ``'plain'`` and ``''`` add none.

    Raises:
        ValueError: As :func:`parse_row`.
    """
    words = [word for word in options.replace("-", "_").split(",") if word not in ("", "plain")]
    for word in words:
        if word not in OPTIONS:
            raise ValueError(
                f"Unknown option {word!r} of {row.name}: expected some of {', '.join(OPTIONS)}."
                f"{did_you_mean(word, OPTIONS)}"
            )
    row = replace(row, **dict.fromkeys(words, True))
    if row.bf16 and row.fp16:
        raise ValueError(f"{row.label}: bf16 and fp16 exclude each other; choose one")
    if row.backbone and not row.whole:
        raise ValueError(f"{row.label}: @BACKBONE goes with a config file, NAME.py@{row.backbone}")
    return row


def expand(rows: list[Row], variants: list[str]) -> list[Row]:
    """Each row in each variant; rows that have options of their own stay as they are.

    Args:
        rows: The rows.
        variants: Texts of options, ``'plain'`` for none; empty for the rows as they are.
    """
    if not variants:
        return unique(rows)
    return unique(
        [
            with_options(row, variant) if not row.options else row
            for row in rows
            for variant in variants
        ]
    )


def unique(rows: list[Row]) -> list[Row]:
    """The rows, each once, in their order."""
    return list(dict.fromkeys(rows))


assert {field.name for field in fields(Row)} >= set(OPTIONS)
