"""The trainings of a protocol: which there are, and the config of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmplugins.engine import SettingError, compose, load_config
from mmplugins.engine.config import settings
from mmplugins.engine.config.backbone_choice import parse_backbone, published_weights, short_name
from mmplugins.engine.config.outline import learning_parts

from .budget import SPLITS, shapes_loaders, use_budget, use_shapes
from .experiment import TASKS, Experiment, task_name
from .palette import timm_family
from .protocol import DataSet, Protocol, ProtocolError, rate_name
from .splits import class_names, pictures_in, split_of
from .trackers import use_tracker

RUNS = "runs"
"""Folder of the trainings, in the folder of a protocol."""


@dataclass(frozen=True)
class Run:
    """One training of a protocol.

    Attributes:
        protocol: The protocol.
        set: What is learnt.
        backbone: As for :func:`mmplugins.engine.compose`, as text.
        label: The backbone's name in tables and folders.
        start: Of :data:`.protocol.STARTS`.
        lr: Learning rate, or None for the recipe's.
        seed: For weights, data and shots.
        out: Folder of the protocol.
    """

    protocol: Protocol
    set: DataSet
    backbone: str
    label: str
    start: str
    lr: float | None
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """What tells it from the others: its folder below the folder of all runs."""
        label = self.label.replace("/", "-")
        rate = rate_name(self.lr)
        return f"{self.set.name}/{label}/{self.start}/lr-{rate}/seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where checkpoints, logs and the result go."""
        return self.out / RUNS / self.name

    @property
    def about(self) -> dict[str, Any]:
        """What its result says about it."""
        return dict(
            protocol=self.protocol.name, set=self.set.name, config=Path(self.set.recipe).stem,
            backbone=self.backbone, label=self.label, start=self.start, lr=self.lr,
            seed=self.seed, family=family_of_backbone(self.backbone),
            settings=self.protocol.settings(self.set),
        )  # fmt: skip

    def experiment(self, tracker: str | None = None) -> Experiment:
        """What is to be run."""
        protocol = self.protocol
        return Experiment(
            self.folder, self.about, lambda: run_config(self, tracker),
            protocol.select, protocol.report, protocol.budget.threads,
        )  # fmt: skip


def name_backbone(text: str) -> tuple[str, str]:
    """Label and backbone of ``caformer_s18``, ``timm/resnet50``, ``dict(...)``, ``NAME=dict(...)``.

    Raises:
        SettingError: If a dict cannot be read.
    """
    text = text.strip()
    if named := re.match(r"([\w.-]+)\s*=\s*(?=dict\(|\{)", text):
        return named[1], text[named.end() :]
    return (short_name(text) if text.startswith(("{", "dict(")) else text), text


def name_backbones(texts: Sequence[str]) -> dict[str, str]:
    """What each label stands for.

    Raises:
        SettingError: If two backbones have one label.
    """
    named: dict[str, str] = {}
    for label, backbone in map(name_backbone, texts):
        if named.setdefault(label, backbone) != backbone:
            raise SettingError(
                f"two backbones are called {label!r}: give names of their own by NAME=dict(...)"
            )
    folders = [label.replace("/", "-") for label in named]
    if twice := next((f for f in folders if folders.count(f) > 1), None):
        raise SettingError(f"two backbones would share the folder {twice!r}: rename one")
    return named


def family_of_backbone(backbone: str | Mapping[str, Any]) -> str | None:
    """Family of a backbone in lower case, as in :mod:`.palette`; None if it cannot be read."""
    try:
        config = parse_backbone(backbone) if isinstance(backbone, str) else backbone
    except SettingError:
        return None
    kind = str(config.get("type", "")).rpartition(".")[2]
    name = str(config.get("model_name", "")).removeprefix("timm/")
    return timm_family(name) if kind == "TimmBackbone" and name else kind.lower()


def plan(protocol: Protocol, backbones: Mapping[str, str], out: str | Path) -> list[Run]:
    """All trainings of a protocol: seed by seed, so that all backbones have one early.

    Args:
        protocol: The protocol.
        backbones: What each label stands for, of :func:`name_backbones`.
        out: Folder of the protocol.
    """
    return [
        Run(protocol, one, backbone, label, start, lr, seed, Path(out))
        for seed in range(protocol.seeds)
        for one in protocol.sets
        for start in protocol.starts
        for label, backbone in backbones.items()
        for lr in protocol.learning_rates
    ]


def run_config(run: Run, tracker: str | None = None) -> Config:
    """The config of a run: recipe, backbone, data, budget and start.

    Raises:
        SettingError: If the backbone does not fit, has no weights to start from, or recipe, data,
            budget and options do not fit each other.
    """
    cfg = model_config(run)
    _use_protocol(cfg, run)
    cfg.experiment_name = re.sub(r"\W+", "_", f"{run.protocol.name}_{run.name}")
    if tracker:
        use_tracker(cfg, tracker, run.protocol.name, run.name, run.out)
    settings.merge_options(cfg, _options(run))
    return cfg


def model_config(run: Run) -> Config:
    """The recipe of a run around its backbone, which starts as the run has it.

    Raises:
        SettingError: If the backbone does not fit, or has no weights to start from.
    """
    recipe = load_config(run.set.recipe)
    if run.start == "random":
        _forget_weights(recipe)  # or weights would be looked for, and missed, for the new backbone
    cfg = compose(recipe, run.backbone)
    _use_start(cfg, run)
    return cfg


def set_config(run: Run) -> Config:
    """The config of a run, but with the backbone that the recipe has itself.

    Raises:
        SettingError: If recipe, data, budget and options do not fit each other.
    """
    cfg = load_config(run.set.recipe)
    _use_protocol(cfg, run)
    options = _options(run)
    settings.merge_options(
        cfg, {k: v for k, v in options.items() if not k.startswith("model.backbone.")}
    )
    return cfg


def _use_protocol(cfg: Config, run: Run) -> None:
    """Data, budget and learning rate."""
    protocol = run.protocol
    best = protocol.select == "best"
    pictures = _use_data(cfg, run)
    validations = protocol.validations if best else None
    use_budget(cfg, protocol.budget, pictures, run.folder, run.seed, validations)
    if best:
        metric = TASKS[task_name(cfg)].metric
        scope = "" if cfg.get("default_scope") == "mmseg" else "coco/"
        cfg.default_hooks.checkpoint.update(save_best=scope + metric, rule="greater")
    if run.lr is not None:
        cfg.optim_wrapper.optimizer.lr = run.lr


def _options(run: Run) -> dict[str, Any]:
    return _tuples({**run.set.options, **run.protocol.budget.options})


def _tuples(value: Any) -> Any:
    """Options as configs have them: YAML and JSON know lists only, and sizes must be tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _forget_weights(cfg: Config) -> None:
    part = next(iter(learning_parts(cfg.model).values()))
    for key in ("init_cfg", "pretrained"):
        part["backbone"].pop(key, None)


def _use_start(cfg: Config, run: Run) -> None:
    """Let the backbone start as the run has it."""
    part = next(iter(learning_parts(cfg.model).values()))
    backbone = part["backbone"]
    if run.start == "random":
        _forget_weights(cfg)
    elif run.start != "recipe" and not (backbone.get("init_cfg") or backbone.get("pretrained")):
        weights = published_weights(backbone)
        if weights is None:
            raise SettingError(
                f"{run.label}: no pretrained weights are known, which {run.start!r} starts from: "
                "give the backbone as a dict with init_cfg=dict(type='Pretrained', "
                "checkpoint=FILE), or leave this start out by --starts"
            )
        backbone["init_cfg"] = dict(type="Pretrained", checkpoint=weights)
    if run.start == "frozen":
        cache = str(run.out / "features") if run.set.cache else None
        part["backbone"] = ConfigDict(type="FrozenBackbone", backbone=backbone, cache=cache)


def _use_data(cfg: Config, run: Run) -> int | None:
    """Put a set's data into a recipe; returns the number of training pictures, if it is known."""
    one, budget = run.set, run.protocol.budget
    if shapes_loaders(cfg) and one.format in ("shapes", "recipe"):
        use_shapes(cfg, run.out / "shapes", budget.image_size)
        return shapes_loaders(cfg)[0].dataset.generate.num_train
    if budget.image_size:
        raise ProtocolError(
            f"image_size={budget.image_size} is for the shapes data, which are drawn at that "
            "size; for other data set the sizes of the pipelines in the config"
        )
    if one.format == "recipe":
        return None
    task = dict(coco="detection", ade20k="segmentation").get(one.format)
    if task != settings.task_of(cfg):
        what = f"learns {settings.task_of(cfg)}" if task else "does not draw its pictures"
        raise ProtocolError(f"the recipe {run.set.recipe} {what}, and the format is {one.format}")
    found: dict[str, Any] = {
        name: split_of(one, name, run.seed, run.out) for name in SPLITS if getattr(one, name)
    }
    found.setdefault("val", found.get("test"))
    found.setdefault("test", found["val"])
    classes = class_names(one, found["train"])
    put = _put_coco if one.format == "coco" else _put_ade20k
    for name, split in found.items():
        # A recipe's loaders for validation and test may be one and the same object.
        cfg[f"{name}_dataloader"] = loader = deepcopy(cfg[f"{name}_dataloader"])
        if name != "train":
            cfg[f"{name}_evaluator"] = deepcopy(cfg[f"{name}_evaluator"])
        dataset = loader.dataset
        while "dataset" in dataset:
            dataset = dataset.dataset
        put(cfg, one, name, split, dataset, classes)
    if classes:
        _set_classes(cfg.model, len(classes))
    return pictures_in(one, found["train"])


def _put_coco(cfg, one, name, split, dataset, classes) -> None:
    if dataset.pop("generate", None):
        dataset.type = "CocoDataset"
    dataset.update(
        data_root="", ann_file=split["annotations"], data_prefix=dict(img=split["images"] + "/"),
        metainfo=dict(classes=classes),
    )  # fmt: skip
    if name != "train":
        evaluators = cfg[f"{name}_evaluator"]
        for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
            if "ann_file" in evaluator:
                evaluator.ann_file = split["annotations"]


def _put_ade20k(cfg, one, name, split, dataset, classes) -> None:
    dataset.update(
        data_root="", ann_file=split.get("names", ""), reduce_zero_label=one.reduce_zero_label,
        data_prefix=dict(img_path=split["images"], seg_map_path=split["labels"]),
        img_suffix=one.suffixes[0], seg_map_suffix=one.suffixes[1],
    )  # fmt: skip
    if dataset.pop("generate", None) or classes:
        dataset.update(type="BaseSegDataset", metainfo=dict(classes=classes))


def _set_classes(part: Any, count: int) -> None:
    """Set ``num_classes`` in every head of a model."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "num_classes":
                part[key] = count
            elif key != "backbone":
                _set_classes(value, count)
    elif isinstance(part, list | tuple):
        for each in part:
            _set_classes(each, count)
