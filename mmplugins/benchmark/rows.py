"""What a row of a benchmark is, by one short text: ``caformer_s18:deploy,channels_last,bf16``.

``NAME[:OPTION,...]``, where NAME is

* a backbone: a name of ``list_backbones()``, ``timm/<model>`` or ``mmpretrain/<name>``;
* a whole model: a config file, or ``CONFIG.py@BACKBONE`` for that recipe around another backbone;
* an exported file: ``model.onnx`` or ``model.xml`` of ``tools/export.py``;

and an OPTION one of :data:`OPTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mmplugins.utils import did_you_mean

OPTIONS = {
    "deploy": "folded by switch_to_deploy(); inference only",
    "channels_last": "weights and images channels-last in memory",
    "compile": "the backbone compiled: ours by block, those of timm and mmpretrain whole",
    "graphs": "ours compiled, and each pass replayed as one CUDA graph; on a GPU",
    "freeze": "ours deployed and compiled with the weights as constants; inference only",
    "onnxruntime": "folded, exported, and run by ONNX Runtime; inference only",
    "openvino": "likewise by OpenVINO, which has bf16 and int8",
    "bf16": "bfloat16: weights and images of a backbone at inference, autocast elsewhere",
    "fp16": "float16, likewise; in training without loss scaling",
    "with_cp": "activation checkpointing in training",
    "int8": "quantised by NNCF; OpenVINO only",
}
"""Options of a row and what they mean. Without any: float32, contiguous, eager, as trained."""

RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
"""What runs an exported file, by its suffix."""

TIMM, MMPRETRAIN = "timm/", "mmpretrain/"


@dataclass(frozen=True)
class Row:
    """A backbone or whole model in one form.

    Attributes:
        name: Backbone, or config file.
        backbone: Backbone to put into the config instead of its own, or ``''``.

    The other attributes are the :data:`OPTIONS`.
    """

    name: str
    backbone: str = ""
    deploy: bool = False
    channels_last: bool = False
    compile: bool = False
    graphs: bool = False
    freeze: bool = False
    bf16: bool = False
    fp16: bool = False
    with_cp: bool = False
    onnxruntime: bool = False
    openvino: bool = False
    int8: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The options that are on, in the order of :data:`OPTIONS`."""
        return tuple(option for option in OPTIONS if getattr(self, option))

    @property
    def whole(self) -> bool:
        """Whether it is a detector or segmentor, of a config or exported."""
        return self.name.endswith(".py") or self.exported

    @property
    def exported(self) -> bool:
        """Whether the name is an exported file."""
        return Path(self.name).suffix in RUNTIMES

    @property
    def runtime(self) -> str:
        """What runs it if PyTorch does not: a value of :data:`RUNTIMES`, else ``''``."""
        if self.exported:
            return RUNTIMES[Path(self.name).suffix]
        return "onnxruntime" if self.onnxruntime else "openvino" if self.openvino else ""

    @property
    def eager(self) -> bool:
        """Whether PyTorch runs it operator by operator, so that its parts can be watched."""
        return not (self.compile or self.runtime)

    @property
    def trains(self) -> bool:
        """Whether it can be trained: the deployed form and other runtimes are for inference."""
        return not (self.deploy or self.runtime)

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
        """``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'int8'``."""
        known = dict(bfloat16=self.bf16, float16=self.fp16, int8=self.int8)
        return next((name for name, on in known.items() if on), "float32")


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
    chosen: dict[str, Any] = dict.fromkeys(words, True)
    row = replace(row, **chosen)
    for option in ("graphs", "freeze"):
        if getattr(row, option):
            if row.name.startswith((TIMM, MMPRETRAIN)):
                raise ValueError(f"{row.label}: {option} is for backbones of this package")
            row = replace(row, compile=True, deploy=row.deploy or row.freeze)
    if row.bf16 and row.fp16:
        raise ValueError(f"{row.label}: bf16 and fp16 exclude each other; choose one")
    if row.backbone and not row.name.endswith(".py"):
        raise ValueError(f"{row.label}: @BACKBONE goes with a config file, NAME.py@{row.backbone}")
    return _in_runtime(row) if row.runtime or row.int8 else row


def _in_runtime(row: Row) -> Row:
    """A row of another runtime, without the options that say what it is anyway.

    Raises:
        ValueError: If the runtime does not have one of its options.
    """
    if not row.runtime:
        raise ValueError(f"{row.label}: PyTorch has no int8 here; write {row.name}:openvino,int8")
    has = ["bf16", "int8"] if row.runtime == "openvino" else []
    has = has[:1] if row.exported else has  # a file is quantised or is not
    wrong = [o for o in row.options if o not in ("deploy", row.runtime, *has)]
    if wrong:
        raise ValueError(
            f"{row.label}: {', '.join(wrong)} cannot be had in {row.runtime}; expected "
            f"{' or '.join(has) or 'no option beside it'}"
        )
    if row.bf16 and row.int8:
        raise ValueError(f"{row.label}: bf16 and int8 exclude each other; choose one")
    row = replace(row, deploy=False)
    return replace(row, onnxruntime=False, openvino=False) if row.exported else row


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
