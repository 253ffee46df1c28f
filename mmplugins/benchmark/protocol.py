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

import yaml

from mmplugins.engine import SettingError
from mmplugins.utils import did_you_mean, few

from .budget import SPLITS, Budget, check_count, listed_as_tuples

FOLDER = Path(__file__).parent / "protocols"
STARTS = ("frozen", "fine-tuned", "random", "recipe")
"""Pretrained and fixed, pretrained and trained on, from random weights, as the recipe has it."""

FORMATS = ("coco", "ade20k", "shapes", "recipe")
"""Of a data set; those of ``recipe`` stay as the recipe has them."""

KINDS = dict(coco=("annotations", "images"), ade20k=("images", "labels"))
"""What a split names, by format."""


class ProtocolError(SettingError):
    """A protocol that cannot be read, contradicts itself or does not fit what is there."""


@dataclass(frozen=True)
class DataSet:
    """A data set of a protocol and the recipe that learns it.

    Attributes:
        name: By which tables and folders call it.
        recipe: Config file: absolute, beside the protocol's file, or below the project's configs.
        format: Of :data:`FORMATS`.
        root: Folder that the paths of the splits start from.
        train: Paths by ``annotations`` and ``images`` (coco), ``labels`` and ``images`` (ade20k);
            ``shots: N`` keeps about N objects per class, drawn by the seed.
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
        listed_as_tuples(self)
        for name, value in (("classes", self.classes), ("suffixes", self.suffixes)):
            listed = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
            if name == "classes" and isinstance(value, str):
                continue  # a file
            if not listed or (name == "suffixes" and len(value) != 2):
                what = "names in quotes, or a file" if name == "classes" else "two endings"
                raise ProtocolError(f"the set {self.name!r}: {name} is {value!r}: expected {what}")
        kinds = KINDS.get(self.format, ())
        for name in SPLITS:
            split = getattr(self, name)
            where = f"the set {self.name!r}, {name}"
            if not isinstance(split, Mapping):
                raise ProtocolError(f"{where} is {split!r}: expected {' and '.join(kinds)}")
            if not kinds or not split:
                continue
            counts = dict(val=("holdout",), train=("shots",)).get(name, ())
            needed = set() if "holdout" in split else set(kinds)
            if missing := sorted(needed - set(split)):
                raise ProtocolError(f"{where}: {' and '.join(missing)} missing ({self.format})")
            if unknown := sorted(set(split) - {*kinds, *counts}):
                raise ProtocolError(
                    f"{where}: unknown key {unknown[0]!r}: expected {', '.join([*kinds, *counts])}."
                )
            for key in counts:
                if key in split:
                    check_count(f"{where}: {key}", split[key])

    def paths(self) -> list[Path]:
        """The files and folders that must be there."""
        named = [Path(self.root) / self.classes] if isinstance(self.classes, str) else []
        return named + [
            Path(self.root) / split[kind]
            for split in (self.train, self.val, self.test)
            for kind in KINDS.get(self.format, ())
            if kind in split
        ]


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
        listed_as_tuples(self)

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
        return json.loads(json.dumps(asdict(self), default=str))


def shipped() -> list[str]:
    """Names of the protocols that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yml"))


def load_protocol(name: str, roots: Mapping[str, str] | None = None) -> Protocol:
    """Read a protocol.

    Args:
        name: Of :func:`shipped`, or a YAML file.
        roots: Folders of the data by the name of the set, in place of those in the file.

    Raises:
        ProtocolError: If there is none, or it is no protocol.
    """
    own = name.endswith((".yml", ".yaml"))
    path = Path(name) if own else FOLDER / f"{name}.yml"
    if own and not path.is_file():
        raise ProtocolError(f"protocol {name!r}: there is no such file in {path.parent.absolute()}")
    if not path.is_file():
        raise ProtocolError(
            f"unknown protocol {name!r}: expected {', '.join(shipped())}, or a YAML file."
            f"{did_you_mean(name, shipped())}"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ProtocolError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ProtocolError(f"{path}: expected keys and values, as docs/benchmark.md shows")
    data = {key.replace("-", "_") if isinstance(key, str) else key: data[key] for key in data}
    _known_keys(data, Protocol, str(path), {"name", "folder"})
    sets = data.pop("sets", None)
    if not isinstance(sets, dict) or not all(isinstance(one, dict) for one in sets.values()):
        raise ProtocolError(f"{path}: sets must name at least one data set with its keys")
    budget = data.pop("budget", {})
    _known_keys(budget, Budget, f"{path}, budget")
    for key in ("departures", "starts", "learning_rates"):
        if key in data and not isinstance(data[key], list):
            data[key] = [data[key]]
    try:
        if "learning_rates" in data:  # YAML takes 1e-4 for a word
            rates = data["learning_rates"]
            data["learning_rates"] = [r if r is None else float(r) for r in rates]
        found = _sets(sets, dict(roots or {}), str(path), str(path.parent))
        return Protocol(
            path.stem, sets=found, budget=Budget(**budget), folder=str(path.parent), **data
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, ProtocolError):
            raise
        raise ProtocolError(f"{path}: {error}") from error


def _known_keys(data: Any, kind: type, where: str, own: frozenset | set = frozenset()) -> None:
    if not isinstance(data, dict):
        raise ProtocolError(f"{where}: expected keys and values")
    known = [each.name for each in fields(kind) if each.name not in own]
    for key in data:
        if key not in known:
            raise ProtocolError(
                f"{where}: unknown key {key!r}: expected some of {', '.join(known)}."
                f"{did_you_mean(key, known)}"
            )


def _sets(
    sets: dict[str, dict[str, Any]], roots: dict[str, str], where: str, folder: str
) -> tuple[DataSet, ...]:
    found = []
    for name, data in sets.items():
        name = str(name)
        _known_keys(data, DataSet, f"{where}, sets.{name}", {"name"})
        if "recipe" not in data:
            raise ProtocolError(f"{where}, sets.{name}: recipe is missing, the config that learns")
        one = DataSet(name, **{**data, "recipe": find_recipe(data["recipe"], folder)})
        if name in roots:
            one = replace(one, root=roots.pop(name))
        found += _each_below(one) if name == "each" else [one]
    if roots:
        raise ProtocolError(
            f"{where}: --data names {few(list(roots))}, and its sets are {few(list(sets))}."
        )
    return tuple(found)


def _each_below(one: DataSet) -> list[DataSet]:
    root = Path(one.root)
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not folders:
        offered = f" It is offered at {one.offered_at}." if one.offered_at else ""
        raise ProtocolError(
            f"{root} has no folder with a data set: give the folder of all sets by "
            f"--data each=FOLDER.{offered}"
        )
    return [replace(one, name=path.name, root=str(path)) for path in folders]


def find_recipe(recipe: str, folder: str = "") -> str:
    """A recipe's file: as it is, beside the protocol, in the project's configs, or installed.

    Raises:
        ProtocolError: If it is nowhere.
    """
    package = Path(__file__).parents[1]
    places = [Path(), Path(folder), package.parent / "configs", package / ".mim/configs"]
    for place in places:
        if (place / recipe).is_file():
            return str(place / recipe)
    raise ProtocolError(
        f"recipe {recipe!r}: no such config here, beside the protocol or in the project's configs"
    )


def check_data(protocol: Protocol) -> None:
    """See that the data of all sets are there.

    Raises:
        ProtocolError: If not: names what is missing, and where its licence holder offers it.
    """
    lines = []
    for one in protocol.sets:
        missing = [path for path in one.paths() if not path.exists()]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            offered = f"; it is offered at {one.offered_at}" if one.offered_at else ""
            lines.append(f"{one.name}: {missing[0]} is missing{more}{offered}")
    if lines:
        raise ProtocolError(
            f"protocol {protocol.name!r} needs data that are not here:\n  "
            + "\n  ".join(lines)
            + "\nSay where they are by --data SET=FOLDER"
        )


def of_recipes(configs: list[str]) -> Protocol:
    """A protocol of recipes as they are: their own data, weights and learning rates.

    Raises:
        ProtocolError: If a config is missing, or two have one name.
    """
    names = [Path(config).stem for config in dict.fromkeys(configs)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ProtocolError(f"two configs are called {twice!r}: rename one")
    sets = tuple(DataSet(Path(c).stem, find_recipe(c)) for c in dict.fromkeys(configs))
    return Protocol("recipes", sets=sets, starts=("recipe",), report="val")


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
