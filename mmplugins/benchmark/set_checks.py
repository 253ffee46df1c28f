"""What can be known of the data and backbones of a protocol before its first training."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mmplugins import checks
from mmplugins.utils import few

from .budget import shapes_loaders
from .protocol import DataSet, ProtocolError
from .runs import Run, model_config, set_config
from .speed import reason_of
from .splits import fewer_shots, read_annotations, split_of


def check_sets(runs: Sequence[Run]) -> list[str]:
    """See that the data of all sets are there, and check them as ``tools/check.py`` does.

    A set is looked at as the first of its runs has it. Nothing is written.

    Returns:
        What is suspicious but can be trained with.

    Raises:
        ProtocolError: If data are missing, with where their licence holder offers them, or cannot
            be trained with. Names all such sets.
    """
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.set.name, run)
    absent = [text for run in first.values() if (text := _absent(run.set))]
    if absent:
        raise ProtocolError(
            f"protocol {runs[0].protocol.name!r} needs data that are not here:\n  "
            + "\n  ".join(absent)
            + "\nSay where they are by --data SET=FOLDER"
        )
    wrong, found = [], []
    with tempfile.TemporaryDirectory(prefix="mmplugins-check-") as folder:
        for name, run in first.items():
            try:
                run = replace(run, out=Path(folder))
                cfg = set_config(run)
                wrong += [f"{name}: {text}" for text in _without_objects(run)]
                failed = checks.failures(checks.preflight(cfg, data=False))
                wrong += [f"{name}: {failure.message}" for failure in failed]
                found += _few_shots(run)
                if not failed and not shapes_loaders(cfg):  # those are drawn when they are used
                    found += [f"{name}: {finding}" for finding in checks.check_data(cfg)]
            except (checks.DataError, ValueError) as error:
                wrong.append(f"{name}: {error}")
    if wrong:
        raise ProtocolError(
            f"protocol {runs[0].protocol.name!r} cannot be trained by:\n  " + "\n  ".join(wrong)
        )
    return found


def _absent(one: DataSet) -> str:
    if not (missing := one.missing()):
        return ""
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    offered = f"; it is offered at {one.offered_at}" if one.offered_at else ""
    return f"{one.name}: {missing[0]} is missing{more}{offered}"


def _few_shots(run: Run) -> list[str]:
    if not (shots := run.set.train.get("shots")):
        return []
    lacking = fewer_shots(run.set, split_of(run.set, "train", run.seed, run.out))
    return [f"{run.set.name}: {shots} shots, and there are {few(lacking)}"] if lacking else []


def _without_objects(run: Run) -> Iterator[str]:
    for name in ("val", "test"):
        if run.set.format == "coco" and getattr(run.set, name):
            file = split_of(run.set, name, run.seed, run.out)["annotations"]
            if not read_annotations(file)["annotations"]:
                yield f"{file} has no objects: nothing can be scored"


def check_backbones(runs: Sequence[Run]) -> list[str]:
    """Put each backbone into each recipe, from each start.

    Returns:
        What cannot be trained, where others of the backbone's runs can.

    Raises:
        ProtocolError: If no run of a backbone can be trained. Names all such backbones.
    """
    first: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        first.setdefault((run.label, run.set.recipe, run.start), run)
    failed: dict[str, list[str]] = {}
    for (label, recipe, start), run in first.items():
        try:
            model_config(run)
        except Exception as error:  # whatever it is, the training would end by it
            where = f"{label}, {Path(recipe).stem}, {start}"
            failed.setdefault(label, []).append(f"{where}: {reason_of(error)}")
    tried = Counter(label for label, _, _ in first)
    lost = [texts[0] for label, texts in failed.items() if len(texts) == tried[label]]
    if lost:
        raise ProtocolError("backbones that cannot be trained:\n  " + "\n  ".join(lost))
    return [text for texts in failed.values() for text in texts]
