"""Which registry each ``type`` of a config belongs to, and what is registered there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import mmengine.registry
from mmengine.registry import Registry

from mmplugins.utils import did_you_mean

SCOPES = ("mmdet", "mmseg")

_BY_KEY = {
    "dataset": "DATASETS",
    "datasets": "DATASETS",
    "pipeline": "TRANSFORMS",
    "switch_pipeline": "TRANSFORMS",
    "batch_sampler": "DATA_SAMPLERS",
    "collate_fn": "FUNCTIONS",
    "worker_init_fn": "FUNCTIONS",
    "optimizer": "OPTIMIZERS",
    "vis_backends": "VISBACKENDS",
    "init_cfg": "WEIGHT_INITIALIZERS",
    # Not registered, but attributes of mmcv.ops.
    "nms": "mmcv.ops",
    "roi_layer": "mmcv.ops",
}
_BY_TOP_LEVEL = {
    "model": "MODELS",
    "tta_model": "MODELS",
    "tta_pipeline": "TRANSFORMS",
    "optim_wrapper": "OPTIM_WRAPPERS",
    "param_scheduler": "PARAM_SCHEDULERS",
    "default_hooks": "HOOKS",
    "custom_hooks": "HOOKS",
    "visualizer": "VISUALIZERS",
    "log_processor": "LOG_PROCESSORS",
    "val_evaluator": "METRICS",
    "test_evaluator": "METRICS",
    "train_cfg": "LOOPS",
    "val_cfg": "LOOPS",
    "test_cfg": "LOOPS",
}
_FOREIGN = ("Albu",)  # their dicts name types of other libraries


@dataclass(frozen=True)
class Typed:
    """A dict with ``type`` in a config.

    Attributes:
        where: Its dotted path.
        cfg: The dict.
        registry: Name of the registry, or ``'mmcv.ops'``.
    """

    where: str
    cfg: Mapping
    registry: str

    @property
    def key(self) -> str:
        """The last name of the path, list positions left out."""
        return self.where.rsplit(".", 1)[-1].split("[")[0]


def typed_entries(cfg: Mapping) -> Iterator[Typed]:
    """Dicts with a ``type`` below the config entries that the runner builds."""
    for key in cfg:
        if key.endswith("_dataloader"):
            yield from _below(cfg[key], key, "")
        elif key in _BY_TOP_LEVEL:
            yield from _below(cfg[key], key, _BY_TOP_LEVEL[key])


def _below(value: Any, where: str, registry: str) -> Iterator[Typed]:
    if isinstance(value, list | tuple):
        for k, item in enumerate(value):
            yield from _below(item, f"{where}[{k}]", registry)
    if not isinstance(value, Mapping):
        return
    if "type" in value and registry:
        wrapper = registry == "METRICS" and value["type"] == "Evaluator"
        yield Typed(where, value, "EVALUATOR" if wrapper else registry)
        if value["type"] in _FOREIGN:
            return
    for key, inner in value.items():
        if key == "sampler" and registry == "":
            below = "DATA_SAMPLERS"
        elif registry == "MODELS" and key in ("type", "dataset"):
            continue
        else:
            below = _BY_KEY.get(key, registry)
        yield from _below(inner, f"{where}.{key}", below)


def find(registry: str, name: str, scope: str) -> Any:
    """What a ``type`` means in a scope, or None.

    Parts of a model are also looked for among the task utilities (assigners, coders, samplers).

    Raises:
        ImportError: If a dotted path names a module that does not load.
    """
    if registry == "mmcv.ops":
        import mmcv.ops

        return getattr(mmcv.ops, name, None)
    for part in _siblings(registry):
        with _root(part).switch_scope_and_registry(scope) as scoped:
            try:
                found = scoped.get(name)
            except RuntimeError as error:  # of mmengine, for "a.b.C" without a module a.b
                raise ImportError(str(error)) from error
        if found is not None:
            return found
    return None


def hint(registry: str, name: str, scope: str) -> str:
    """Where else a name is registered, or which names are near."""
    if registry == "mmcv.ops":
        return f"expected 'nms', 'soft_nms' or another operator of mmcv.ops.{_near_op(name)}"
    bare = name.rsplit(".", 1)[-1]
    for other in SCOPES:
        if (bare != name or other != scope) and registered_in(registry, bare, other):
            return f"{other} has {bare!r}: write '{other}.{bare}', or set default_scope"
    near = did_you_mean(bare, known(registry, scope), count=3)
    return (near.strip() or "no registered name is near: check its spelling") + (
        " (a class of your own must be in a module that custom_imports names)"
    )


def known(registry: str, scope: str) -> list[str]:
    """Names that can be written in a scope without a prefix."""
    names: list[str] = []
    for part in _siblings(registry):
        with _root(part).switch_scope_and_registry(scope) as scoped:
            scoped.import_from_location()
            while scoped is not None:
                names += scoped.module_dict
                scoped = scoped.parent
    return sorted(set(names))


def _siblings(registry: str) -> tuple[str, ...]:
    # Assigners and coders stand in a model's dict; some families name token mixers by dicts.
    return ("MODELS", "TASK_UTILS", "TRANSFORMS") if registry == "MODELS" else (registry,)


def registered_in(registry: str, name: str, scope: str) -> bool:
    """Whether a scope itself, not its parents, has a name."""
    try:
        import_module(f"{scope}.registry")
    except (ImportError, AssertionError):
        return False
    for part in _siblings(registry):
        with _root(part).switch_scope_and_registry(scope) as scoped:
            if scoped.scope == scope:
                scoped.import_from_location()
                if name in scoped.module_dict:
                    return True
    return False


def _root(registry: str) -> Registry:
    return getattr(mmengine.registry, registry)


def _near_op(name: str) -> str:
    import mmcv.ops

    return did_you_mean(name, [op for op in vars(mmcv.ops) if not op.startswith("_")], count=2)
