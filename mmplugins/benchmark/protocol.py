"""What is trained, on what, for how long, how often, and what the report is taken from: as data.

A protocol is a YAML file. Those that ship lie in ``protocols/`` and are known by name. The keys:

``title``, ``source``, ``departures``
    What it is, whose it is, and where this file differs from that.
``sets``
    Data sets by name, see :class:`DataSet`. The one key ``each`` stands for every folder below the
    data root that the user gives: any number of sets of one layout.
``budget``
    The fields of :class:`.budget.Budget`: ``steps`` or ``epochs``, ``batch``, ``amp``, ...
``starts``
    Of :data:`STARTS`; each is a table of its own. Defaults to ``[random]``.
``learning_rates``
    The grid; the best on validation is reported. Defaults to the recipe's own.
``seeds``
    How many. Defaults to 3.
``select``
    ``best``: the checkpoint of the best validation; ``last``: the last one. Defaults to ``last``.
``validations``
    Validations of a training with ``select: best``. Defaults to 5.
``report``
    ``test`` or ``val``. Whatever something was chosen on may not be reported. Defaults to ``test``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mmplugins.engine import SettingError
from mmplugins.utils import did_you_mean, few

from .budget import SPLITS, Budget
from .fields import check_count, check_fields

STARTS = ("frozen", "fine-tuned", "random", "recipe")
"""Pretrained and fixed, pretrained and trained on, from random weights, as the recipe has it."""

FORMATS = ("coco", "ade20k", "shapes", "recipe")
"""Of a data set; those of ``recipe`` stay as the recipe has them."""

KINDS = dict(coco=("annotations", "images"), ade20k=("images", "labels"))
"""What a split names, by format."""


_SCORED = ("select", "validations", "report")
"""Fields of a protocol, beside rates, budget and sets, that change what its scores are."""


class ProtocolError(SettingError):
    """A protocol that cannot be read, contradicts itself or does not fit what is there."""


def plain(one: Any) -> dict[str, Any]:
    """A dataclass as plain data, as JSON has them."""
    return json.loads(json.dumps(asdict(one), default=str))


@dataclass(frozen=True)
class DataSet:
    """A data set of a protocol and the recipe that learns it.

    Attributes:
        name: By which tables and folders call it.
        recipe: Config file: absolute, beside the protocol's file, or below the project's configs.
        format: Of :data:`FORMATS`.
        root: Folder that the paths of the splits start from.
        train: Paths by ``annotations`` and ``images`` (coco), ``labels`` and ``images`` (ade20k);
            ``shots: N`` keeps about N objects per class (coco) or N pictures (ade20k), drawn by
            the seed.
        val: Likewise, or ``holdout: N``, so many pictures taken out of training.
        test: Likewise.
        classes: Names, or a file below the root with one name per line. Defaults to those of the
            annotation file, or of the recipe.
        reduce_zero_label: Whether 0 of a label map is no class.
        suffixes: Endings of pictures and label maps (ade20k).
        options: Further changes of the recipe, dotted names to values.
        cache: Whether frozen backbones keep the maps of pictures that come again. Pipelines
            without random crops and colours gain from it.
        offered_at: Where the licence holder offers the data.
    """

    name: str
    recipe: str
    format: str = "recipe"
    root: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    val: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | str = ()
    reduce_zero_label: bool = True
    suffixes: tuple[str, str] = (".jpg", ".png")
    options: Mapping[str, Any] = field(default_factory=dict)
    cache: bool = False
    offered_at: str = ""

    def __post_init__(self):
        check_fields(self, f"the set {self.name!r}: ")
        if len(set(self.classes)) < len(self.classes) and not isinstance(self.classes, str):
            raise ProtocolError(f"the set {self.name!r}: classes has a name twice: {self.classes}")
        kinds = KINDS.get(self.format, ())
        for name in SPLITS:
            split = getattr(self, name)
            where = f"the set {self.name!r}, {name}"
            if not kinds or not split:
                continue
            held = name == "val" and "holdout" in split
            needed = () if held else kinds
            known = ("holdout",) if held else (*kinds, "shots") if name == "train" else kinds
            if missing := [key for key in needed if key not in split]:
                raise ProtocolError(f"{where}: {' and '.join(missing)} missing ({self.format})")
            for key, value in split.items():
                if key not in known:
                    raise ProtocolError(
                        f"{where}: unknown key {key!r}: expected {', '.join(known)}."
                    )
                if key not in kinds:
                    check_count(f"{where}: {key}", value)
                elif not isinstance(value, str):
                    raise ProtocolError(f"{where}: {key} is {value!r}: expected a path below root")

    def missing(self) -> list[Path]:
        """The files and folders that must be there and are not."""
        files = [self.classes] if isinstance(self.classes, str) else []
        splits = (self.train, self.val, self.test)
        kinds = KINDS.get(self.format, ())
        folders = [split[kind] for split in splits for kind in kinds if kind in split]
        return [path for each in files + folders if not (path := Path(self.root) / each).exists()]


@dataclass(frozen=True)
class Protocol:
    """A protocol, see the module.

    Attributes:
        name: Of the file, without its ending.
        folder: Where the file lies; recipes are looked for there.
    """

    name: str
    title: str = ""
    source: str = ""
    departures: tuple[str, ...] = ()
    sets: tuple[DataSet, ...] = ()
    budget: Budget = field(default_factory=Budget)
    starts: tuple[str, ...] = ("random",)
    learning_rates: tuple[float | None, ...] = (None,)
    seeds: int = 3
    select: str = "last"
    validations: int = 5
    report: str = "test"
    folder: str = ""

    def __post_init__(self):
        check_fields(self, f"protocol {self.name!r}: ")

        def refuse(text: str) -> None:
            raise ProtocolError(f"protocol {self.name!r}: {text}")

        for name, value, known in (
            ("select", self.select, ("best", "last")),
            ("report", self.report, ("test", "val")),
            *(("starts", start, STARTS) for start in self.starts),
            *((f"sets.{one.name}.format", one.format, FORMATS) for one in self.sets),
        ):
            if value not in known:
                refuse(f"{name} is {value!r}: expected {' or '.join(known)}.")
        for name in ("seeds", "validations"):
            check_count(f"protocol {self.name!r}: {name}", getattr(self, name))
        if not self.sets or not self.starts or not self.learning_rates:
            refuse("it needs at least one of sets, starts and learning_rates each")
        names = dict(
            sets=[one.name for one in self.sets], starts=list(self.starts),
            learning_rates=[rate_name(rate) for rate in self.learning_rates],
        )  # fmt: skip
        for key, found in names.items():
            if twice := next((name for name in found if found.count(name) > 1), None):
                refuse(f"{key} has {twice} twice, which are trainings of one name: leave one out")
        unfit = ("", ".", "..")
        if wrong := [n for n in names["sets"] if n in unfit or "/" in n or "\\" in n]:
            refuse(f"a set is called {wrong[0]!r}, which cannot be the name of its folder")
        if any(rate is not None and rate <= 0 for rate in self.learning_rates):
            refuse(f"learning_rates is {self.learning_rates}: expected numbers above 0")
        chooses = self.select == "best" or len(self.learning_rates) > 1
        if self.report == "val" and chooses:
            refuse(
                "it chooses on the validation split and reports it too, which flatters: report the "
                "test split, or give one learning rate and select: last"
            )
        for one in self.sets:
            if one.format in ("shapes", "recipe"):
                missing = ["test"] if self.report == "test" else []
            else:
                needed = {"train", self.report, *(["val"] if chooses else [])}
                missing = [split for split in SPLITS if split in needed and not getattr(one, split)]
            if missing:
                refuse(
                    f"the set {one.name!r} has no {' and no '.join(missing)} split, and the scores "
                    f"are of {self.report}: name its files under {missing[0]}:, hold pictures of "
                    "training out (val: {holdout: 100}), or, where nothing is chosen on "
                    "validation, report: val"
                )

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return plain(self)

    def settings(self, *sets: DataSet) -> dict[str, Any]:
        """What changes scores of some sets, as plain data; data and recipes may lie anywhere."""
        shared = {name: getattr(self, name) for name in _SCORED}
        shared |= dict(learning_rates=list(self.learning_rates)) | plain(self.budget)
        return shared | {
            f"{one.name}.{key}": value
            for one in sets
            for key, value in plain(one).items()
            if key not in ("name", "root", "recipe", "offered_at")
        }


def rate_name(rate: float | None) -> str:
    """A learning rate in the names of folders."""
    return "recipe" if rate is None else f"{rate:g}"


def changed(protocol: Protocol, sets: list[str] | None = None, **changes: Any) -> Protocol:
    """A protocol with other settings, which are named among its departures.

    Args:
        protocol: As it was read.
        sets: Names of the sets to keep. Defaults to all.
        **changes: Fields of the protocol or its budget; those that are None stay as they are.

    Raises:
        ProtocolError: If there is no such set.
        ValueError: If a value is out of range.
    """
    names = [one.name for one in protocol.sets]
    for name in sets or ():
        if name not in names:
            raise ProtocolError(
                f"protocol {protocol.name!r} has no set {name!r}: expected some of "
                f"{few(names, 20)}.{did_you_mean(name, names)}"
            )
    own = {field.name for field in fields(Budget)}
    given = {k: v for k, v in changes.items() if v is not None and v != {}}
    budget = {k: v for k, v in given.items() if k in own}
    if "steps" in budget:
        budget["epochs"] = None
    rest = {k: v for k, v in given.items() if k not in own}
    notable = [f"{k}={v}" for k, v in given.items() if k not in ("seeds", "starts", "options")]
    departures = (f"on the command line, {', '.join(notable)}",) if notable else ()
    return replace(
        protocol,
        sets=tuple(one for one in protocol.sets if not sets or one.name in sets),
        budget=replace(protocol.budget, **budget),
        departures=(*protocol.departures, *(departures if protocol.source else ())),
        **rest,
    )
