"""Protocols as files: those that ship, those of users, and how one is written again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from mmplugins.utils import did_you_mean, few

from .budget import Budget
from .protocol import DataSet, Protocol, ProtocolError

FOLDER = Path(__file__).parent / "protocols"


def shipped() -> list[str]:
    """Names of the protocols that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yml"))


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, and refuses a key that stands twice, the first of which is lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.MarkedYAMLError(None, None, f"{twice} stands twice", node.start_mark)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+$"), list("-+0123456789")
)


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
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
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
    if "steps" in budget and "epochs" in budget:
        raise ProtocolError(f"{path}, budget: steps and epochs exclude each other: give one")
    for key in ("departures", "starts", "learning_rates"):
        if key in data and not isinstance(data[key], list):
            data[key] = [data[key]]
    try:
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
        one = DataSet(name, **data)
        one = replace(one, recipe=find_recipe(one.recipe, folder))
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


def as_yaml(protocol: Mapping[str, Any]) -> str:
    """A protocol as a file that can be read again; recipes by their names below ``configs``."""
    data = {k: v for k, v in protocol.items() if k not in ("name", "folder")}
    unused = "steps" if data["budget"]["epochs"] else "epochs"
    data["budget"] = {k: v for k, v in data["budget"].items() if k != unused}
    data["sets"] = {}
    for one in protocol["sets"]:
        recipe = Path(one["recipe"])
        data["sets"][one["name"]] = {
            **{k: v for k, v in one.items() if k != "name" and v not in ("", {}, [])},
            "recipe": "/".join(recipe.parts[-2:]),
        }
    return yaml.safe_dump(data, sort_keys=False, width=100)
