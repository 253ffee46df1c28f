"""A data set that a config names: its class and classes, its files, and what is said of it."""

from __future__ import annotations

import codecs
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from mmengine.registry import DATASETS, Registry

from mmplugins.engine.config.constructors import class_of
from mmplugins.utils import DataError, type_name

from .explain import walk

MIN_SIDE = 32
"""The largest stride of a four-stage backbone, in pixels."""

SAMPLE = 32
"""Pictures decoded when not all are."""


_HEADS = {
    codecs.BOM_UTF8: "begins with a byte-order mark, which OpenMMLab takes for content: save it as "
    "UTF-8 without one",
    codecs.BOM_UTF16_LE: "is UTF-16 text: save it as UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16 text: save it as UTF-8",
    b"\x1f\x8b": "is compressed: unpack it",
    b"PK\x03\x04": "is compressed: unpack it",
}
"""First bytes of files that are no plain text, and what to do with them."""


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong but can be trained with.

    Attributes:
        where: The config entry it concerns, for example `train_dataloader.dataset`.
        message: What was found.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass
class DataSet:
    """One data set of a config, below its wrappers.

    Attributes:
        where: Its config path.
        config: Its config.
        pipeline: All transforms that its pictures run through, those of wrappers included.
        scope: The config's default scope.
        train: Whether it is trained on, so that annotations are needed.
        full: Whether to decode every picture and map.
        findings: What is suspicious but usable.
        read: How many pictures were decoded, and of how many; None if none was.
    """

    where: str
    config: Mapping[str, Any]
    pipeline: list
    scope: str
    train: bool = False
    full: bool = False
    findings: list[Finding] = field(default_factory=list)
    read: tuple[int, int] | None = None

    def fail(self, message: str, entry: str = "") -> NoReturn:
        """Raise what cannot work, of the data set or of one of its entries."""
        raise DataError(f"{self.where}.{entry}" if entry else self.where, message)

    def warn(self, message: str) -> None:
        self.findings.append(Finding(self.where, message))

    @cached_property
    def cls(self) -> Any:
        """The class that its type means; the data set fails if there is none."""
        return registered(DATASETS, self.config, self.scope, self.where)

    @property
    def is_coco(self) -> bool:
        """Whether it reads its annotations the way mmdet's `CocoDataset` does."""
        return self._reads_as("CocoDataset", "load_data_list", "parse_data_info")

    @property
    def is_segmentation(self) -> bool:
        """Whether it lists its files the way mmseg's `BaseSegDataset` does."""
        return self._reads_as("BaseSegDataset", "load_data_list")

    def _reads_as(self, name: str, *methods: str) -> bool:
        if self.cls.METAINFO.get("classes", ()) is None:  # from a file that only it knows
            return False
        return all(getattr(self.cls, m).__qualname__ == f"{name}.{m}" for m in methods)

    @property
    def is_known(self) -> bool:
        """Whether its annotations are of a kind that is known here."""
        return self.is_coco or self.is_segmentation

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: the config's own, else those of the type."""
        # `_load_metainfo` also reads classes from a file, as the data set itself will do.
        classes = self.cls._load_metainfo(self.config.get("metainfo")).get("classes")
        if isinstance(classes, str):
            self.fail(
                f"metainfo.classes is the string {classes!r}, expected a tuple of names: for one "
                f"class write classes=({classes!r},) with the comma"
            )
        if not classes:
            self.fail("no class names: give metainfo=dict(classes=('first', 'second', ...))")
        return tuple(classes)

    @property
    def root(self) -> str:
        return self.config.get("data_root") or ""

    @property
    def ann_file(self) -> str:
        return os.path.join(self.root, self.config.get("ann_file") or "")

    def text_of(self, path: str) -> str:
        """What an annotation file holds, read as OpenMMLab reads it: plain UTF-8."""
        raw = Path(path).read_bytes()
        for head, said in _HEADS.items():
            if raw.startswith(head):
                self.fail(f"ann_file {path} {said}")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            self.fail(f"ann_file {path} is no UTF-8 text, {error}: save it as UTF-8")

    def setting(self, name: str) -> Any:
        """An entry of the config, or the default of the type."""
        return self.config[name] if name in self.config else default_of(self.cls, name)

    def step(self, name: str) -> Mapping | None:
        """The first transform whose type ends in a name."""
        steps = walk_transforms(self.pipeline)
        return next((step for step in steps if type_name(step).endswith(name)), None)

    @property
    def resizes(self) -> bool:
        return any("Resize" in type_name(step) for step in walk_transforms(self.pipeline))

    def sample(self, items: Sequence) -> Sequence:
        """All items, or an even choice that holds the first and the last; by the length alone."""
        if self.full or len(items) <= SAMPLE:
            return items
        return [items[k] for k in np.linspace(0, len(items) - 1, SAMPLE).round().astype(int)]


def data_sets(loader: Any, split: str, scope: str = "mmengine", **settings: Any) -> list[DataSet]:
    """The data sets of a data loader's config, below the wrappers.

    Args:
        loader: The config, or None.
        split: ``'train'``, ``'val'`` or ``'test'``.
        scope: The config's default scope. Defaults to ``'mmengine'``.
        **settings: Of :class:`DataSet`.
    """

    def below(config: Any, where: str, outer: Sequence) -> Iterator[DataSet]:
        if not isinstance(config, Mapping):
            return
        pipeline = [*(config.get("pipeline") or ()), *outer]
        inner = config.get("datasets", config.get("dataset"))
        if isinstance(inner, list | tuple):
            for k, one in enumerate(inner):
                yield from below(one, f"{where}.datasets[{k}]", pipeline)
        elif isinstance(inner, Mapping):
            name = "datasets" if "datasets" in config else "dataset"
            yield from below(inner, f"{where}.{name}", pipeline)
        else:
            yield DataSet(where, config, pipeline, scope, split == "train", **settings)

    return list(below((loader or {}).get("dataset"), f"{split}_dataloader.dataset", ()))


def registered(registry: Registry, cfg: Any, scope: str, where: str) -> Any:
    """The class that a config's `type` means in a scope.

    Raises:
        DataError: There is none.
    """
    if found := class_of(registry, cfg, scope):
        return found
    if not isinstance(cfg.get("type"), str):
        raise DataError(f"{where}.type", f"is {cfg.get('type')!r}: expected the name of a class")
    raise DataError(
        where,
        f"type {cfg['type']!r} is not registered in {scope}: check its spelling, and that "
        "custom_imports names the module that defines it",
    )


def walk_transforms(pipeline: Any) -> Iterator[Mapping]:
    """Transform configs of a pipeline, those inside `RandomChoice`, `TestTimeAug`, ... included."""
    return (step for _, step in walk(pipeline) if isinstance(step, Mapping) and "type" in step)


def default_of(cls: Any, argument: str) -> Any:
    """Default of a constructor's argument, looked up through `**kwargs` along the base classes."""
    bases: tuple[Any, ...] = inspect.getmro(cls) if inspect.isclass(cls) else ()
    for base in bases:
        parameter = inspect.signature(base.__init__).parameters.get(argument)
        if parameter is not None:
            return None if parameter.default is parameter.empty else parameter.default
    return None
