"""From a file to a model that predicts: config and checkpoint, one of them, folder, exported."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn

from mmplugins.backbones.deploy_state import MARK
from mmplugins.checkpoint import CheckpointError, find_weights, load_source, refuse_shards
from mmplugins.checkpoint.config_text import (
    check_harmless,
    config_from_text,
    innermost,
    is_registered,
    registered_only,
)
from mmplugins.checkpoint.fitting import match_model
from mmplugins.checkpoint.payload import dataset_names
from mmplugins.deployment import reparameterize
from mmplugins.engine import SettingError, load_composed
from mmplugins.engine.config.settings import merge_options, task_of
from mmplugins.utils import line_of

from .inputs import InputError
from .model import LoadedModel, TorchRuntime, pipeline_of, scope_of

EXPORTED = (".onnx", ".xml", ".pt2")
"""Suffixes of exported files: ONNX, OpenVINO, torch.export."""


def load_model(
    model: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    *,
    device: str | None = None,
    backbone: str | None = None,
    options: Mapping[str, Any] | None = None,
    deploy: bool = False,
    trust: bool = False,
    **runtime: Any,
) -> LoadedModel:
    """Load a trained model for prediction.

    Args:
        model: A config (``.py``, or ``package::name`` of OpenMMLab) with a ``checkpoint`` beside
            it; or, alone, a checkpoint that holds its config, as mmengine writes it; a model
            folder; or an exported file (``.onnx``, ``.xml``, ``.pt2``).
        checkpoint: Weights, in trained or deployed form: a file or address.
        device: ``'cpu'``, ``'cuda:0'``; the first GPU if there is one by default.
        backbone: As in :func:`.compose`, for a config that was trained with ``--backbone``.
        options: Dotted names to values to merge into the config.
        deploy: Fold the model (:func:`.reparameterize`): faster, equal up to rounding.
        trust: Believe a config from a checkpoint or folder as your own code. Without it such a
            config is read as data, and builds only what OpenMMLab and this package register.
        runtime: For exported files, see :func:`mmplugins.deployment.load_exported`.

    Raises:
        InputError: If a file does not exist, or is of a kind that does not take an argument.
        SettingError: If the config cannot be used.
        CheckpointError: If the weights cannot be read, do not fit, or their config is not plain.
        ExportError: If an exported file is somebody else's, or its runtime is not installed.
    """
    path = os.path.expanduser(os.fspath(model))
    refuse_shards(path if checkpoint is None else os.path.expanduser(os.fspath(checkpoint)))
    where = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used: {line_of(error)}") from error
    if checkpoint is None and (Path(path).suffix == ".py" or "::" in path):
        raise InputError(f"{path} is a config: give its checkpoint too, CONFIG CHECKPOINT")
    if checkpoint is not None:
        cfg = load_composed(path, backbone, dict(options or {}))
        content = _read(checkpoint)
        name = os.fspath(checkpoint)
    elif os.path.isdir(path):
        from mmplugins.deployment.model_folder import read_folder

        content, cfg = read_folder(path, trust)
        if not trust:
            check_config(cfg, path)
        name = path
    elif Path(path).suffix in EXPORTED:
        if not os.path.isfile(path):
            raise InputError(f"{path} does not exist (looked for {os.path.abspath(path)})")
        if options or deploy or backbone:
            raise InputError(
                f"{path} is exported, its model is fixed: options, deploy and backbone are for "
                "checkpoints; export it anew with them"
            )
        return _exported(path, device=device, trust=trust, **runtime)
    else:
        content = _read(path)
        cfg, name = config_in(content, path, trust), path
    if runtime:
        raise InputError(f"{', '.join(runtime)}: only exported files take this")
    if backbone and checkpoint is None:
        raise InputError(f"backbone={backbone!r}: {path} has its own; give CONFIG CHECKPOINT")
    if checkpoint is None:
        merge_options(cfg, dict(options or {}))
    own = trust or checkpoint is not None
    with nullcontext() if own else registered_only():
        task = task_of(cfg)
        built = build_model(cfg, content, name, deploy)
        built.to(where)
        classes, palette = names_and_colours(cfg, dataset_names(content, name), own)
        return LoadedModel(name, cfg, task, classes, palette, TorchRuntime(built))


def _exported(path: str, *, trust: bool, **runtime: Any) -> LoadedModel:
    """Load a file of ``tools/export.py``."""
    from mmplugins.deployment.runtime import load_exported

    from .exported import ExportedRuntime

    exported = load_exported(path, trust=trust, **runtime)
    known = exported.description
    cfg = trusted_config(known["config"], path) if trust else safe_config(known["config"], path)
    with nullcontext() if trust else registered_only():
        classes, palette = _as_tuples(known["classes"], known.get("palette"))
        return LoadedModel(
            path, cfg, known["task"], classes, palette, ExportedRuntime(exported, cfg)
        )


def _read(checkpoint: str | os.PathLike) -> dict[str, Any]:
    if "://" not in os.fspath(checkpoint) and not Path(checkpoint).expanduser().is_file():
        raise InputError(
            f"checkpoint {os.fspath(checkpoint)!r} does not exist (looked for "
            f"{os.path.abspath(Path(checkpoint).expanduser())})"
        )
    return load_source(os.fspath(checkpoint))


def config_in(content: Mapping[str, Any], source: str, trust: bool) -> Config:
    """The config that a checkpoint holds.

    Raises:
        CheckpointError: If it holds none, or one that is not plain data.
    """
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    text = meta.get("cfg") or meta.get("config")
    if not isinstance(text, str) or not text.strip():
        raise CheckpointError(
            f"{source} holds no config (mmengine's own checkpoints do): give it too, "
            "CONFIG CHECKPOINT"
        )
    return trusted_config(text, source) if trust else safe_config(text, source)


def trusted_config(text: str, source: str) -> Config:
    """A config of the user's trust: read, and what it imports imported, as mmengine does."""
    try:
        return Config.fromstring(text, ".py")
    except Exception as error:  # it is a program and may raise anything
        raise CheckpointError(
            f"the config in {source} cannot be read, {type(error).__name__}: {error}"
        ) from error


def safe_config(text: str, source: str) -> Config:
    """A config of unknown origin: literals only, and of those only registered names are built."""
    cfg = config_from_text(text, source)
    check_config(cfg, source)
    return cfg


def check_config(cfg: Config, source: str) -> None:
    """Make sure that what is built of a config is registered."""
    if task_of(cfg) == "segmentation":
        from mmseg.utils import register_all_modules
    else:
        from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=False)
    check_harmless(dict(model=cfg.get("model"), custom_imports=cfg.get("custom_imports")), source)
    check_harmless(dict(pipeline=pipeline_of(cfg)), source)


def build_model(
    cfg: Config, content: Mapping[str, Any], source: str, deploy: bool = False
) -> nn.Module:
    """Build the model of a config, in eval mode, with the weights of a file in either form.

    Raises:
        CheckpointError: If the weights do not fit; what is missing or left over is named.
        SettingError: If the model cannot be built.
    """
    from mmengine.model import revert_sync_batchnorm

    kind = dict(cfg.model)
    if beside := cfg.get("data_preprocessor"):  # as mmengine's runner
        kind.setdefault("data_preprocessor", beside)
    if "backbone" not in kind:
        raise SettingError(
            f"model.type={kind.get('type')!r} has no backbone of its own: expected a detector or "
            "segmentor; of a distillation, write the student first (tools/distill_export.py) and "
            "give its config"
        )
    kind["backbone"] = {k: v for k, v in kind["backbone"].items() if k not in _FIRST_WEIGHTS}
    with scope_of(task_of(cfg)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "``build_loss``")  # mmseg, of a call of its own
        try:
            model = revert_sync_batchnorm(MODELS.build({**kind, "init_cfg": None})).eval()
        except (KeyError, TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise SettingError(f"the model of {source} cannot be built: {error}") from error
    folded = MARK in find_weights(content, source).tensors
    if folded:
        reparameterize(model)
    report, fitted = match_model(model, content, source)
    problems = report.problems(whole=True)
    if problems:
        raise CheckpointError(
            f"{source} does not fit the {type(model).__name__} of the config: {'; '.join(problems)}"
        )
    model.load_state_dict(fitted)
    return reparameterize(model) if deploy and not folded else model


_FIRST_WEIGHTS = ("init_cfg", "pretrained")
"""Settings of a backbone that fetch weights, which the checkpoint holds already."""


def names_and_colours(
    cfg: Config, given: Mapping[str, Any], trusted: bool
) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colours of the classes: from the checkpoint, else the config, else its data set."""
    known: dict[str, Any] = {}
    dataset = innermost((cfg.get("test_dataloader") or {}).get("dataset")) or {}
    kind = dataset.get("type")
    if isinstance(kind, str):
        with scope_of(task_of(cfg)), DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind) if trusted or is_registered(kind) else None
    for source in (
        getattr(kind, "METAINFO", None),
        dataset.get("metainfo"),
        cfg.get("metainfo"),
        given,
    ):
        if isinstance(source, Mapping):
            known.update({k.lower(): v for k, v in source.items() if v})
    classes = known.get("classes") or ()
    classes = (classes,) if isinstance(classes, str) else classes
    palette = known.get("palette")
    palette = palette if isinstance(palette, Sequence) and not isinstance(palette, str) else ()
    return _as_tuples(classes, palette)


def _as_tuples(
    classes: Iterable, palette: Iterable | None
) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    return tuple(map(str, classes)), tuple((int(r), int(g), int(b)) for r, g, b in palette or ())
