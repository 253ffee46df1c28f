"""Training and validation pictures of a data set, where its protocol asks for others than it has.

Lists and annotation files that are made here lie in the folder of the trainings and are the same
for all of them; the data themselves stay as they are.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from filelock import FileLock

from mmplugins.utils import write_whole

from .protocol import DataSet, ProtocolError


def split_of(one: DataSet, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Where the pictures and annotations of a split are.

    Args:
        one: The data set.
        name: ``'train'``, ``'val'`` or ``'test'``.
        seed: Of the training, which draws the shots.
        folder: For files that are made.

    Returns:
        ``images`` and ``annotations`` (coco), or ``images``, ``labels`` and perhaps ``names``, a
        file with one picture's name per line (ade20k); absolute paths.

    Raises:
        ProtocolError: If there are fewer pictures than asked for.
    """
    split = getattr(one, name)
    held = one.val.get("holdout", 0)
    source = one.train if "holdout" in split else split
    root = Path(one.root).resolve()
    kinds = ("images", "annotations" if one.format == "coco" else "labels")
    found = {kind: str(root / source[kind]) for kind in kinds}
    shots = split.get("shots", 0)
    if name == "test" or not (held or shots):
        return found
    ending = "json" if one.format == "coco" else "txt"
    kept = "val" if "holdout" in split else f"train_{shots}shots_{seed}" if shots else "train"
    file = folder / "splits" / one.name / f"{kept}.{ending}"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.is_file():
            make = _coco if one.format == "coco" else _names
            write_whole(file, make(one, found, held, "holdout" in split, shots, seed))
    found["annotations" if one.format == "coco" else "names"] = str(file)
    return found


def _drawn(one: DataSet, names: list, count: int) -> set:
    """That many of the names; the same ones at each call."""
    if not 0 <= count < len(names):
        raise ProtocolError(
            f"holdout: {count} of {len(names)} training pictures leaves none: give fewer"
        )
    return set(random.Random(0).sample(sorted(names), count))


_NEEDED = dict(
    images={"id", "file_name"}, annotations={"image_id", "category_id"}, categories={"id", "name"}
)
"""What entries of an annotation file must have, by list."""


def read_annotations(annotations: str) -> dict[str, Any]:
    """An annotation file in COCO's format.

    Raises:
        ProtocolError: If it is none.
    """
    try:
        content = json.loads(Path(annotations).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtocolError(f"{annotations} is no JSON: {error}") from error
    for key, needed in _NEEDED.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and needed <= entry.keys() for entry in entries
        ):
            raise ProtocolError(
                f"{annotations}: expected COCO's format, a list of {key}, each with "
                f"{' and '.join(sorted(needed))}"
            )
    return content


def _coco(one: DataSet, paths: dict, held: int, validation: bool, shots: int, seed: int) -> str:
    content = read_annotations(paths["annotations"])
    ids = [image["id"] for image in content["images"]]
    apart = _drawn(one, ids, held) if held else set()
    kept = apart if validation else set(ids) - apart
    if shots and not validation:
        kept = _few_shots(content["annotations"], kept, shots, seed)
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    return json.dumps(content)


def _few_shots(annotations: list[dict], ids: set, shots: int, seed: int) -> set:
    """Pictures drawn until each class has its shots, or no picture has more of it."""
    by_picture: dict[int, Counter] = {}
    for each in annotations:
        if each["image_id"] in ids and not each.get("iscrowd"):
            by_picture.setdefault(each["image_id"], Counter())[each["category_id"]] += 1
    order = sorted(by_picture)
    random.Random(seed).shuffle(order)
    kept: set[int] = set()
    have: Counter = Counter()
    # Rare classes first, as their pictures bring objects of the frequent ones along.
    totals = sum(by_picture.values(), Counter())
    for category in sorted(totals, key=lambda c: (totals[c], c)):
        for picture in order:
            if have[category] >= shots:
                break
            if picture not in kept and category in by_picture[picture]:
                kept.add(picture)
                have += by_picture[picture]
    return kept


def _names(one: DataSet, paths: dict, held: int, validation: bool, shots: int, seed: int) -> str:
    names = _labelled(one, paths)
    apart = _drawn(one, names, held) if held else set()
    kept = sorted(apart if validation else set(names) - apart)
    if shots and not validation:
        kept = sorted(random.Random(seed).sample(kept, min(shots, len(kept))))
    return "".join(f"{name}\n" for name in kept)


def _labelled(one: DataSet, paths: dict) -> list[str]:
    """Names of the pictures that have a label map, also in folders below, without suffix.

    Raises:
        ProtocolError: If there are none.
    """
    folder, suffix = Path(paths["labels"]), one.suffixes[1]
    maps = [path.relative_to(folder).as_posix() for path in folder.rglob(f"*{suffix}")]
    if not maps:
        raise ProtocolError(
            f"no label map below {folder} ends in {suffix!r}: give suffixes, "
            "those of pictures and of label maps"
        )
    return [name.removesuffix(suffix) for name in maps]


def fewer_shots(one: DataSet, split: dict[str, Any]) -> list[str]:
    """What a training split of :func:`split_of` has fewer of than its shots, in words.

    A class without any object is not meant: exports list such classes.
    """
    shots = one.train["shots"]
    if one.format != "coco":
        count = pictures_in(one, split) or 0
        return [f"{count} pictures"] if count < shots else []
    content = read_annotations(split["annotations"])
    have = Counter(a["category_id"] for a in content["annotations"] if not a.get("iscrowd"))
    counts = {category["name"]: have[category["id"]] for category in content["categories"]}
    return [f"{count} of {name!r}" for name, count in counts.items() if 0 < count < shots]


def pictures_in(one: DataSet, split: dict[str, Any]) -> int | None:
    """Number of pictures of a split of :func:`split_of`; None if the recipe alone knows it."""
    if one.format == "coco":
        return len(read_annotations(split["annotations"])["images"])
    if "names" in split:
        return len(Path(split["names"]).read_text(encoding="utf-8").splitlines())
    if one.format == "ade20k":
        return len(_labelled(one, split))
    return None


def class_names(one: DataSet, split: dict[str, Any]) -> tuple[str, ...]:
    """Names of the classes: those of the protocol, else of the annotation file, else none.

    Raises:
        ProtocolError: If their file has none, or one of them twice.
    """
    if isinstance(one.classes, str):
        path = Path(one.root) / one.classes
        lines = path.read_text(encoding="utf-8").splitlines()
        found = tuple(line.strip() for line in lines if line.strip())
        if not found or len(set(found)) < len(found):
            raise ProtocolError(f"{path}: expected the names of the classes, each once in a line")
        return found
    if one.classes or one.format != "coco":
        return tuple(one.classes)
    return tuple(
        category["name"] for category in read_annotations(split["annotations"])["categories"]
    )
