"""The protocol that a folder of trainings keeps to, from call to call, on whatever machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmplugins.utils import write_whole

from .budget import Budget
from .protocol import DataSet, Protocol, ProtocolError

NOTED = "protocol.json"
"""File in a folder of trainings that holds their protocol."""


def settle(protocol: Protocol, backbones: Mapping[str, str], folder: str | Path) -> Protocol:
    """Note a protocol in its folder, or see that it is the one noted there.

    Args:
        protocol: The protocol.
        backbones: What each label stands for.
        folder: Of the trainings.

    Returns:
        The protocol with all sets, starts and seeds that the folder has.

    Raises:
        ProtocolError: As :func:`agreed`.
    """
    noted, path = agreed(protocol, backbones, folder), Path(folder) / NOTED
    text = json.dumps(noted, indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)
    return from_plain(noted["protocol"])


def agreed(protocol: Protocol, backbones: Mapping[str, str], folder: str | Path) -> dict[str, Any]:
    """What :func:`settle` notes in a folder.

    Sets, starts and seeds may grow from call to call; what changes a score may not.

    Raises:
        ProtocolError: If the folder has trainings of another protocol or budget.
    """
    folder = Path(folder)
    if (folder / "budget.json").exists() or (folder / "trials").exists():
        raise ProtocolError(
            f"{folder} has trainings of an earlier version of mmplugins, which had no protocols: "
            "give another --out"
        )
    path, now = folder / NOTED, protocol.plain()
    if noted := _noted(path):
        old = noted["protocol"]
        if old["name"] != now["name"]:
            raise ProtocolError(
                f"{folder} has trainings of the protocol {old['name']!r}, and this is "
                f"{now['name']!r}: two protocols do not share a folder; give another --out"
            )
        if other := _changes(from_plain(old), protocol):
            raise ProtocolError(
                f"{folder} has trainings by other settings ({'; '.join(other)}), and such scores "
                "do not stand in one table: give another --out"
            )
        for label, text in noted["backbones"].items():
            if backbones.get(label, text) != text:
                raise ProtocolError(
                    f"{folder} has trainings of {label!r} as {text}, and now it is "
                    f"{backbones[label]}: give it a name of its own by NAME=dict(...), or another "
                    "--out"
                )
        now = _union(old, now)
        backbones = {**noted["backbones"], **backbones}
    elif (folder / "runs").exists():
        raise ProtocolError(f"{path} is gone, and its trainings are there: give another --out")
    return dict(schema=1, protocol=now, backbones=dict(backbones))


def read_settled(folder: str | Path) -> tuple[Protocol, dict[str, str]]:
    """The protocol of a folder, and what its backbones stand for.

    Raises:
        ProtocolError: If there is none.
    """
    noted = _noted(Path(folder) / NOTED)
    if noted is None:
        raise ProtocolError(f"{folder} holds no {NOTED}: no trainings were planned there")
    return from_plain(noted["protocol"]), noted["backbones"]


def _noted(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        if noted["schema"] == 1 and noted["backbones"] is not None:
            return noted
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    raise ProtocolError(f"{path} is no protocol of this version: give another --out")


def from_plain(data: Mapping[str, Any]) -> Protocol:
    """A protocol of :meth:`Protocol.plain`."""
    sets = tuple(DataSet(**one) for one in data["sets"])
    return Protocol(**{**data, "sets": sets, "budget": Budget(**data["budget"])})


def _changes(old: Protocol, now: Protocol) -> list[str]:
    known = {one.name: one for one in old.sets}
    before = old.settings(*(known.get(one.name, one) for one in now.sets))
    after = now.settings(*now.sets)
    return [f"{k}: {before[k]}, now {after[k]}" for k in after if before[k] != after[k]]


def _union(old: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    names = [one["name"] for one in now["sets"]]
    return {
        **now,
        "sets": [*(one for one in old["sets"] if one["name"] not in names), *now["sets"]],
        "starts": list(dict.fromkeys([*old["starts"], *now["starts"]])),
        "seeds": max(old["seeds"], now["seeds"]),
    }
