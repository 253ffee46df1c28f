"""Data sets drawn by hypothesis, legal ones and spoilt ones, and what OpenMMLab makes of them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

WORDS = st.text("abz é日_-[]|{}%'\"", min_size=1, max_size=6).map(str.strip).filter(bool)
STEMS = st.text("abz é日_-[]()+,", min_size=1, max_size=6).map(str.strip).filter(bool)
SIDES = st.integers(32, 48)
JUNK: list[Any] = [
    None, True, -1, 0, 7, 10**12, 1e308, float("nan"), 0.5, "", "7", "a", [], [1], ["a"], {},
    {"a": 1}, [[]], [0, 0, 0, 0], [1, 2, 3], [-5, -5, 4, 4], [0, 0, 1e6, 1e6], [[1, 2]], "../x",
    {"size": [1, 1], "counts": [1]}, {"counts": "x"},
]  # fmt: skip
"""What stands in files in place of something else."""

REMEDY = re.compile(
    r"\b(add|annotate|check|clip|convert|copy|correct|export|give|label|make|merge|multiply|name"
    r"|number|remove|resize|save|scale|set|start|take|use|write)\b"
)
"""What a message asks for."""


def names_remedy(error: Exception) -> bool:
    """Whether a message says where, what is wrong and, after the last colon, what to do."""
    return bool(REMEDY.search(str(error).partition(": ")[2].partition(": ")[2] or str(error)))


def ids(count: int) -> st.SearchStrategy[list]:
    """Different ids of one kind: whole, negative, beyond 64 bits, fractions or texts."""
    kinds = (
        st.integers(0, 40),
        st.integers(-(2**70), 2**70),
        st.integers(-40, 40).map(lambda k: k / 2),
        st.text("ab01-", max_size=4),
    )
    return st.one_of(
        [st.lists(kind, min_size=count, max_size=count, unique=True) for kind in kinds]
    )


@st.composite
def annotations(draw: st.DrawFn, width: int, height: int) -> dict[str, Any]:
    """A box inside of a picture, with some of what files have beside it."""
    w, h = draw(st.integers(4, width // 2)), draw(st.integers(4, height // 2))
    x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
    shift = draw(st.sampled_from([0, 0.25]))
    box = [x + shift / 2, y, w - shift, h]
    one: dict[str, Any] = dict(bbox=box, area=box[2] * box[3])
    one |= draw(st.sampled_from([{}, dict(iscrowd=0), dict(iscrowd=0, ignore=0)]))
    one |= draw(st.sampled_from([{}, dict(score=0.5, attributes=dict(a=[1])), dict(keypoints=[])]))
    corners = [x, y, x + w, y, x + w, y + h, x, y + h]
    before, run = x * height + y, [h, height - h] * w  # by columns, from the first pixel
    counts = [before, *run[:-1], width * height - before - sum(run[:-1])]
    code = dict(size=[height, width], counts=counts)
    return one | dict(segmentation=draw(st.sampled_from([[corners], code])))


@st.composite
def coco_sets(draw: st.DrawFn) -> dict[str, Any]:
    """A COCO instances file that mmdet trains with, as the dict that it holds."""
    classes = draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))
    numbers = draw(ids(len(classes)))
    stems = draw(st.lists(STEMS, min_size=1, max_size=3, unique_by=str.lower))
    folder, suffix = draw(st.sampled_from(["", "a/b c/"])), draw(st.sampled_from([".png", ".JPG"]))
    images, found = [], []
    for image_id, stem in zip(draw(ids(len(stems))), stems, strict=True):
        width, height = draw(SIDES), draw(SIDES)
        name = f"{folder}{stem}{suffix}"
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        least = 0 if found else 1
        for one in draw(st.lists(annotations(width, height), min_size=least, max_size=4)):
            label = draw(st.sampled_from(numbers))
            found.append(dict(one, image_id=image_id, category_id=label))
    for one, number in zip(found, draw(ids(len(found))), strict=True):
        one["id"] = number
    content = dict(images=images, annotations=found)
    content["categories"] = [dict(id=k, name=n) for k, n in zip(numbers, classes, strict=True)]
    return content | draw(st.sampled_from([{}, dict(info={}, licenses=[])]))


@st.composite
def spoilt(draw: st.DrawFn, content: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The file with one or two entries of other values, lost, or twice; and what was done."""
    content, done = json.loads(json.dumps(content)), []
    for _ in range(draw(st.integers(1, 2))):
        part = draw(st.sampled_from(["images", "annotations", "categories"]))
        entries = content.get(part)
        assume(isinstance(entries, list) and entries)
        place = draw(st.integers(0, len(entries) - 1))
        entry = entries[place]
        assume(isinstance(entry, dict) and entry)
        key = draw(st.sampled_from(sorted(entry)))
        how = draw(st.sampled_from(["value"] * 5 + ["lose", "twice", "entry", "list"]))
        value = draw(st.sampled_from(JUNK))
        if how == "value":
            entry[key] = value
        elif how == "lose":
            del entry[key]
        elif how == "twice":
            entries.append(dict(entry))
        elif how == "entry":
            entries[place] = value
        else:
            content[part] = value
        done.append(f"{how} {part}[{place}].{key} {value!r}")
    return content, "; ".join(done)


def write_coco(root: Path, content: Mapping[str, Any], sizes: Mapping[str, tuple]) -> Config:
    """Write a set with its pictures, of ``(width, height)`` by name, and a config that loads it."""
    for name, (width, height) in sizes.items():
        path = root / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(path.suffix, np.full((height, width, 3), 90, np.uint8))
        path.write_bytes(data.tobytes())
    (root / "instances.json").write_text(json.dumps(content))
    categories = content.get("categories")
    categories = categories if isinstance(categories, list) else []
    names = tuple(c["name"] for c in categories if isinstance(c, dict) and "name" in c)
    dataset = dict(
        type="CocoDataset",
        data_root=str(root),
        ann_file="instances.json",
        data_prefix=dict(img="pictures/"),
        metainfo=dict(classes=names),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            dict(type="PackDetInputs"),
        ],
    )
    return Config(dict(default_scope="mmdet", train_dataloader=dict(dataset=dataset)))


@st.composite
def label_sets(draw: st.DrawFn) -> dict[str, Any]:
    """Pictures and label maps that mmseg trains with, and how they are laid out."""
    classes = draw(st.lists(WORDS, min_size=1, max_size=4, unique=True))
    zero = draw(st.booleans())
    values = [*range(zero, len(classes) + zero), 255, *([0] if zero else [])]
    maps = {}
    for stem in draw(st.lists(STEMS, min_size=1, max_size=3, unique_by=str.lower)):
        width, height, seed = draw(SIDES), draw(SIDES), draw(st.integers(0, 99))
        labels = np.random.default_rng(seed).choice(values, (height, width)).astype(np.uint8)
        labels[0, : len(values)] = values
        maps[stem] = labels
    return dict(
        classes=tuple(classes),
        zero=zero,
        maps=maps,
        listed=draw(st.sampled_from([None, "\n", "\r\n"])),
        folder=draw(st.sampled_from(["", "a/b c/"])),
        suffix=draw(st.sampled_from([".png", ".jpg", "_left.png"])),
        map_suffix=draw(st.sampled_from([".png", "_labels.png"])),
    )


def write_labels(root: Path, drawn: Mapping[str, Any]) -> Config:
    """Write such a set, and a config that loads it."""
    for stem, labels in drawn["maps"].items():
        picture = np.full((*labels.shape[:2], 3), 90, np.uint8)
        for kind, suffix, pixels in (
            ("images", drawn["suffix"], picture),
            ("labels", drawn["map_suffix"], labels),
        ):
            path = root / kind / f"{drawn['folder']}{stem}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    names = [f"{drawn['folder']}{stem}" for stem in drawn["maps"]]
    dataset = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="images", seg_map_path="labels"),
        img_suffix=drawn["suffix"],
        seg_map_suffix=drawn["map_suffix"],
        metainfo=dict(classes=drawn["classes"]),
        reduce_zero_label=drawn["zero"],
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    )
    if drawn["listed"]:
        text = drawn["listed"].join([*names, ""])
        (root / "names.txt").write_bytes(text.encode())
        dataset["ann_file"] = "names.txt"
    return Config(dict(default_scope="mmseg", train_dataloader=dict(dataset=dataset)))


def loaded(cfg: Config) -> list[dict[str, Any]]:
    """What training would see: every sample of a config, annotations and all."""
    dataset = cfg.train_dataloader.dataset.to_dict()
    scope = cfg.default_scope
    with (
        DefaultScope.overwrite_default_scope(scope),
        contextlib.redirect_stdout(io.StringIO()),
        DATASETS.switch_scope_and_registry(scope) as scoped,
    ):
        built = scoped.build(dict(dataset, serialize_data=False))
        return [built[k] for k in range(len(built))]
