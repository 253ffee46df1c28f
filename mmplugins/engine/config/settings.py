"""What the flags of the tools change in a config: each flag is one function.

The flags are those of mmdet's and mmseg's own tools, for configs of both.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmengine.utils import get_installed_path

from mmplugins.checkpoint import refuse_shards
from mmplugins.utils import did_you_mean, listed, type_name

ENTRIES = {*inspect.signature(Runner.__init__).parameters} - {"self", "cfg"} | {
    *("custom_imports", "tta_model", "tta_pipeline", "find_unused_parameters", "runner_type"),
    *("compile", "model_wrapper_cfg", "sync_bn"),
}
"""Top-level entries of a config that the runner and the tools read."""

OWN_HOOKS = dict(progress="ProgressHook", load_report="LoadReportHook", results="ResultsHook")
"""What the tools add to every config: names in ``default_hooks``, and types."""

_SCOPES = {"mmdet": "detection", "mmseg": "segmentation"}


class SettingError(ValueError):
    """A flag that does not fit the config or the files that are there."""


def load_config(path: str | os.PathLike, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and merge ``options`` (dotted names to values) into it.

    Args:
        path: A file, or ``package::name`` for one that a package brings, as in ``_base_``:
            ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        options: Dotted names to values.

    Raises:
        SettingError: If there is no such file, or it cannot be read as a config.
    """
    file = config_file(path)
    if not file.is_file():
        raise SettingError(
            f"config {str(path)!r} does not exist (looked for {file.resolve()}): give the "
            "path of a .py file, for example one below configs/, or package::name"
        )
    try:
        cfg = Config.fromfile(file)
        _import_all(cfg)
    except Exception as error:  # a config is a program and may raise anything
        raise SettingError(
            f"config {str(path)!r} cannot be read, {type(error).__name__}: {error}: correct it, "
            "or the file in _base_ or module in custom_imports that the message names"
        ) from error
    merge_options(cfg, options)
    return cfg


def _import_all(value: Any) -> None:
    """Import what a config of the new style names, which mmengine does when it is asked for."""
    if isinstance(value, Config | Mapping | list | tuple):
        for inner in value if isinstance(value, list | tuple) else value.values():
            _import_all(inner)


def config_file(path: str | os.PathLike) -> Path:
    """The file that a config's path or ``package::name`` stands for, whether it is there or not.

    Raises:
        SettingError: If there is no such package, or it has no such config.
    """
    package, colons, name = str(path).partition("::")
    if not colons:
        return Path(path)
    try:
        folder = Path(get_installed_path(package)) / ".mim" / "configs"
    except Exception as error:  # of several kinds, by mmengine's version
        raise SettingError(
            f"config {str(path)!r}: there is no package {package!r}: expected mmdet, mmseg, "
            "mmplugins or another one that is installed"
        ) from error
    names = [name, f"{name}.py"]
    found = [folder / one for one in names if (folder / one).is_file()]
    if not found:
        known = (file.relative_to(folder).as_posix() for file in folder.rglob("*.py"))
        raise SettingError(
            f"config {str(path)!r}: {package} has no {name} in {folder}."
            f"{did_you_mean(name, known, count=3)}"
        )
    return found[0]


def merge_options(cfg: Config, options: dict[str, Any] | None) -> None:
    """Merge ``--cfg-options``, dotted names to values, into a config.

    Raises:
        SettingError: If they do not fit it, or begin with a name that is near a known one.
    """
    for name in options or {}:
        first = name.partition(".")[0]
        near = did_you_mean(first, {*cfg, *ENTRIES})
        if near and first not in cfg and first not in ENTRIES:
            raise SettingError(
                f"--cfg-options {name}: the config has no entry {first!r}, and nobody would read "
                f"it.{near}"
            )
    try:
        cfg.merge_from_dict(options or {})
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise SettingError(
            f"--cfg-options {options} cannot be merged, {type(error).__name__}: {error}: give "
            "dotted names of entries, list positions as numbers"
        ) from error


def task_of(cfg: Config) -> str:
    """``'detection'`` for a config of mmdet, ``'segmentation'`` for one of mmseg.

    Raises:
        SettingError: If neither the default scope nor the model's type says which it is.
    """
    for scope in (cfg.get("default_scope"), package_of(cfg)):
        if scope in _SCOPES:
            return _SCOPES[scope]
    raise SettingError(
        f"default_scope={cfg.get('default_scope')!r} and a model of type "
        f"{cfg.get('model', {}).get('type')!r} do not tell the task: set default_scope to 'mmdet' "
        "or 'mmseg', for example by detection_runtime.py or segmentation_runtime.py in _base_"
    )


def package_of(cfg: Mapping[str, Any]) -> str:
    """The package that the model's type names, as a text (``'mmdet.RetinaNet'``) or a class."""
    model = cfg.get("model")
    kind = model.get("type") if isinstance(model, Mapping) else None
    name = kind if isinstance(kind, str) else getattr(kind, "__module__", "")
    return name.partition(".")[0]


def set_work_dir(cfg: Config, work_dir: str | None, config_path: str | os.PathLike) -> None:
    """Choose the work dir: the given one, else the config's, else ``work_dirs/<config name>``."""
    cfg.work_dir = work_dir or cfg.get("work_dir") or f"work_dirs/{Path(config_path).stem}"


def use_amp(cfg: Config) -> None:
    """Train in mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.

    Raises:
        SettingError: If the config has an optimiser wrapper of another kind, or several.
    """
    kind = type_name({"type": "OptimWrapper", **cfg.optim_wrapper})
    if kind not in ("OptimWrapper", "AmpOptimWrapper") or "optimizer" not in cfg.optim_wrapper:
        found = f".type={kind!r}" if "optimizer" in cfg.optim_wrapper else " of several optimisers"
        raise SettingError(
            f"--amp cannot change optim_wrapper{found}: expected 'OptimWrapper'; set the "
            "precision in the config instead, type='AmpOptimWrapper'"
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def use_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the true batch size over ``auto_scale_lr.base_batch_size``.

    Raises:
        SettingError: If the config does not say for which batch size its rate is.
    """
    if not (cfg.get("auto_scale_lr") or {}).get("base_batch_size"):
        raise SettingError(
            "--auto-scale-lr needs the batch size that the learning rate belongs to: add "
            "auto_scale_lr=dict(enable=False, base_batch_size=16) to the config"
        )
    cfg.auto_scale_lr.enable = True


def use_resume(cfg: Config, resume: str) -> None:
    """Go on with a training: ``'auto'`` from the work dir's last checkpoint, or from a file.

    Raises:
        SettingError: If the file does not exist.
    """
    cfg.resume = True
    cfg.load_from = None if resume == "auto" else existing_checkpoint(resume)


def existing_checkpoint(path: str) -> str:
    """``path`` unchanged; whatever has a scheme (``https://``) is not looked at.

    Raises:
        CheckpointError: If it is a checkpoint in shards.
        SettingError: If it is a local path without a file.
    """
    refuse_shards(path)
    if "://" not in path and not Path(path).is_file():
        raise SettingError(
            f"checkpoint {path!r} does not exist (looked for {os.path.abspath(path)}): give a file "
            "that training has written, for example work_dirs/<name>/epoch_12.pth"
        )
    return path


def use_own_hooks(cfg: Config) -> None:
    """Progress, load report and results, whatever the config inherits.

    A hook of the same type, or a ``default_hooks`` entry of that name (None switches it off), stays
    as the config has it; but mmengine's own checkpoint hook, given as a class, becomes ours.
    """
    cfg.default_hooks = cfg.get("default_hooks") or {}
    hooks = cfg.default_hooks
    there = {type_name(one) for one in (*hooks.values(), *(cfg.get("custom_hooks") or ())) if one}
    for hook in hooks.values():  # its name stands for the safe one that takes its place
        if isinstance(hook, dict) and hook.get("type") is CheckpointHook:
            hook["type"] = "CheckpointHook"
    for name, kind in OWN_HOOKS.items():
        if kind not in there and name not in hooks:
            hooks[name] = dict(type=kind)
    import_this_package(cfg)


def import_this_package(cfg: Config) -> None:
    """Name this package in ``custom_imports``, so that OpenMMLab's own tools can run the config."""
    imports = cfg.get("custom_imports") or dict(imports=[], allow_failed_imports=False)
    names = imports["imports"]
    names = [names] if isinstance(names, str) else list(names)
    if "mmplugins" not in names:
        names.insert(0, "mmplugins")
    cfg.custom_imports = dict(imports, imports=names)


def use_deploy_form(cfg: Config) -> None:
    """``--deploy``: fold the model before weights of either form are loaded, for testing."""
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or ()), dict(type="DeployHook")]


def use_compiler(cfg: Config, memory_budget: float = 0.5) -> None:
    """``--compile``: compile the blocks of the backbone when they are first called.

    Raises:
        SettingError: If the budget is no share.
    """
    if not 0 <= memory_budget <= 1:
        raise SettingError(
            f"--memory-budget {memory_budget}: expected a share from 0 (compute all a second time) "
            "to 1 (keep what is fastest)"
        )
    hook = dict(type="CompileBackboneHook", memory_budget=memory_budget)
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or ()), hook]


def use_tta(cfg: Config) -> None:
    """Test with augmentation: the config's ``tta_model`` and ``tta_pipeline``, else flips."""
    task = task_of(cfg)
    if "tta_model" not in cfg:
        merge = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)
        cfg.tta_model = (
            dict(type="DetTTAModel", tta_cfg=merge)
            if task == "detection"
            else dict(type="SegTTAModel")
        )
    for dataset in _below(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.get("tta_pipeline") or _flipped_too(dataset.pipeline)
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)


def _below(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The data sets inside of wrappers, or the one that is none."""
    inner = listed(dataset.get("datasets") or dataset.get("dataset"))
    for one in inner:
        yield from _below(one)
    if not inner:
        yield dataset


def _flipped_too(pipeline: list[dict]) -> list[dict]:
    """A test pipeline whose picture also comes mirrored; its annotations stay as they are."""
    *steps, pack = deepcopy(list(pipeline))
    if "meta_keys" in pack:
        pack["meta_keys"] = tuple(dict.fromkeys([*pack["meta_keys"], "flip", "flip_direction"]))
    views = [dict(type="RandomFlip", prob=prob, direction="horizontal") for prob in (0.0, 1.0)]
    labels = [step for step in steps if type_name(step) == "LoadAnnotations"]
    branches = [views, *([label] for label in labels), [pack]]
    rest = [step for step in steps if step not in labels]
    return [*rest, dict(type="TestTimeAug", transforms=branches)]


def draw_predictions(
    cfg: Config, show: bool = False, show_dir: str | None = None, wait_time: float = 2.0
) -> None:
    """Draw test predictions, in a window for ``wait_time`` seconds each, or into a folder.

    Raises:
        SettingError: If the folder holds files.
    """
    hook = dict(type="DrawPredictionsHook", show=show, wait_time=wait_time)
    threshold = cfg.get("default_hooks", {}).get("visualization", {}).get("score_thr")
    if threshold is not None:
        hook["score_thr"] = threshold
    if show_dir:
        folder = Path(show_dir).resolve()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingError(
                f"--show-dir {show_dir!r} exists and is not empty, and nothing is overwritten: "
                "give another folder, or remove it"
            )
        hook["folder"] = str(folder)
    if "visualizer" not in cfg:
        kind = "DetLocalVisualizer" if task_of(cfg) == "detection" else "SegLocalVisualizer"
        cfg.visualizer = dict(type=kind, name="visualizer")
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or ()), hook]


def dump_predictions(cfg: Config, out: str) -> None:
    """Keep test predictions: a ``.pkl`` of all (detection), a folder of maps (segmentation).

    Raises:
        SettingError: If the file or folder is there already, or has the wrong form.
    """
    task = task_of(cfg)
    if Path(out).exists():
        raise SettingError(
            f"--out {out!r} exists, and nothing is overwritten: give another path, or remove it"
        )
    evaluators = listed(cfg.test_evaluator)
    if task == "segmentation":
        cfg.test_evaluator = [dict(e, output_dir=out, keep_results=True) for e in evaluators]
    elif out.endswith((".pkl", ".pickle")):
        cfg.test_evaluator = [*evaluators, dict(type="DumpDetResults", out_file_path=out)]
    else:
        raise SettingError(f"--out {out!r}: expected a file name that ends in .pkl or .pickle")
