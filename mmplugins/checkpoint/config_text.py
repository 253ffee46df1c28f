"""The config that mmengine writes into checkpoints, read as data: nothing in its text runs.

mmengine itself reads such a text by running it. It is a list of assignments of literals, with
``dict(name=value)`` in place of braces, and that is all that is understood here. The data are then
looked through as well, for a config names what is built: only names that OpenMMLab's registries
know, and no imports but those of OpenMMLab and this package. And while it is built, nothing is
imported by name and no file is read that is a program.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from mmengine.config import Config
from mmengine.fileio import handlers
from mmengine.registry import Registry, registry, root
from mmengine.utils import get_object_from_string

from mmplugins.compat.patches.patch import replaced
from mmplugins.utils import few

from .reading import CheckpointError

_LIBRARIES = ("mmplugins", "mmdet", "mmseg", "mmpretrain", "mmengine", "mmcv")
"""Packages that a config from a file may import: those that are imported for any model."""

_SUPPRESSIONS = ("nms", "soft_nms", "nms_quadri", "nms_rotated", "nms_match")
"""Types of `nms=dict(type=...)`, which mmcv hands to Python's `eval`."""

_LAYERS = ("RoIAlign", "RoIPool", "DeformRoIPool", "DeformRoIPoolPack", "PrRoIPool")
"""Types of `roi_layer`, which mmdet looks up in mmcv.ops."""

_EVALUATES = ("CameraMotionCompensation",)
"""Registered classes that run a text of their config."""

_NAMES = {"inf": float("inf"), "nan": float("nan")}  # as Python writes these numbers


def config_from_text(text: str, source: str) -> Config:
    """Read the text of a config, as ``Config.pretty_text`` writes it, without running it.

    Args:
        text: Assignments of literals.
        source: Where it comes from, for messages.

    Raises:
        CheckpointError: If it holds anything but literals.
    """
    values: dict[str, Any] = {}
    try:
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = literal_value(value)
                case _:
                    raise ValueError(ast.unparse(statement)[:60])
    except (SyntaxError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the config in {source} is not plain data ({error}): expected `name = literal`, as "
            "mmengine writes it. Give the config file itself: CONFIG CHECKPOINT"
        ) from error
    return Config(values)


def harmless_config(text: str, source: str) -> Config:
    """Read the text of a config of unknown origin, for mmengine's inferencers.

    Raises:
        CheckpointError: If it is not plain data, or names what is not registered.
    """
    cfg = config_from_text(text, source)
    cfg.pop("custom_imports", None)  # this package has been imported, others are not
    task = str(cfg.get("default_scope") or "mmdet")
    if task in ("mmdet", "mmseg"):
        import_module(f"{task}.utils").register_all_modules(init_default_scope=False)
        import_module(f"{task}.visualization")  # which mmseg leaves out there
    built = ("default_scope", "model", "test_dataloader", "visualizer")
    check_harmless({key: cfg.get(key) for key in built}, source)
    if isinstance(loader := cfg.get("test_dataloader"), dict):
        loader["dataset"] = innermost(loader.get("dataset"))
    if isinstance(visualizer := cfg.get("visualizer"), dict):
        for key in ("vis_backends", "save_dir"):
            visualizer.pop(key, None)  # they write, or send, where the file's author says
    return cfg


def innermost(dataset: Any) -> Any:
    """The settings of the innermost of nested data sets; where one holds several, the first counts.

    mmdet switches reading off for the outermost one only, but the files are those of the innermost.
    """
    while isinstance(dataset, Mapping):
        several = dataset.get("datasets")
        inner = several[0] if isinstance(several, list) and several else dataset.get("dataset")
        if not isinstance(inner, Mapping):
            break
        dataset = inner
    return dataset


@contextlib.contextmanager
def registered_only() -> Iterator[None]:
    """Let parts of a config of unknown origin be built of registered classes and of nothing else.

    Not only ``type`` names classes, but norms, activations and token mixers too, and a registry
    imports what it does not know. Other settings name files that run as they are read: configs,
    pickles, and YAML in mmengine's way.
    """
    known = handlers.file_handlers
    before = dict(known)
    known.update(dict.fromkeys(_PROGRAMS, _Program()))
    try:
        with (
            replaced(registry, "get_object_from_string", _registered),
            replaced(registry, "import_module", _import_library),
            replaced(Config, "fromfile", _Program()),
        ):
            yield
    finally:
        known.update(before)


def _import_library(name: str) -> ModuleType:
    """Import a module for a registry, which takes the words before a dot for a package."""
    if name.partition(".")[0] not in _LIBRARIES:
        raise ImportError(f"{name} is not imported for a config of unknown origin")
    return import_module(name)


_PROGRAMS = ("pickle", "pkl", "yaml", "yml")


class _Program:
    """Stands for a reader of files that may hold code, and refuses before the file is opened."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise CheckpointError(
            "its config names a file that runs as it is read (a config, a pickle or YAML). If you "
            "trust it as your own code, give the config file too, or --trust (trust=True)"
        )

    str_like = property(__call__)


def literal(text: str) -> Any:
    """The value of the text of a literal, see :func:`literal_value`.

    Args:
        text: For example ``"[dict(type='EMAHook', momentum=0.0002)]"``.

    Raises:
        SyntaxError: If it is no Python.
        ValueError: If it holds names or calls other than ``dict``.
        TypeError: If a key cannot be one.
    """
    return literal_value(ast.parse(text.strip(), mode="eval").body)


def literal_value(node: ast.expr) -> Any:
    """The value of a parsed literal; ``dict(name=value)`` and ``dict({...})`` are literals too.

    Raises:
        ValueError: If it is anything else.
        TypeError: If a key cannot be one.
    """
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=args, keywords=words):
            if any(word.arg is None for word in words) or len(args) > 1:
                raise ValueError(f"a call, {ast.unparse(node)[:60]}")
            start = literal_value(args[0]) if args else {}
            if not isinstance(start, dict):
                raise ValueError(f"a call, {ast.unparse(node)[:60]}")
            return {**start, **{word.arg: literal_value(word.value) for word in words}}
        case ast.Dict(keys=keys, values=values):
            if None in keys:
                raise ValueError("a dict unpacked into another")
            names = [literal_value(key) for key in keys if key]
            return dict(zip(names, map(literal_value, values), strict=True))
        case ast.List(elts=elements):
            return [literal_value(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(literal_value(element) for element in elements)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id=name)) if name in _NAMES:
            return -_NAMES[name]
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
    return ast.literal_eval(node)


def check_harmless(parts: Mapping[str, Any], source: str) -> None:
    """Make sure that building parts of a config builds registered classes only.

    A registry that does not know a name takes it for the path of a Python object, ``os.system``
    say, and calls that. Call this once the registries are filled.

    Args:
        parts: What will be built, and ``custom_imports``.
        source: Where it comes from, for messages.

    Raises:
        CheckpointError: If a type is none that is registered, or a foreign module is imported.
    """
    kinds = [one["type"] for one in _dicts(parts) if "type" in one]
    scopes = [one.get(key) for one in _dicts(parts) for key in ("_scope_", "default_scope")]
    wrong = [f"type={kind!r}" for kind in kinds if not is_registered(kind)]
    imports = (parts.get("custom_imports") or {}).get("imports") or []
    imports = [imports] if isinstance(imports, str) else imports
    # mmengine imports the package of a scope that a config switches to.
    wrong += [f"scope={scope!r}" for scope in scopes if scope and scope not in _LIBRARIES]
    wrong += [f"custom_imports={n!r}" for n in imports if str(n).split(".")[0] not in _LIBRARIES]
    if wrong:
        raise CheckpointError(
            f"the config in {source} names what OpenMMLab and mmplugins do not have: {few(wrong)}. "
            "Building it would run code of that name. If you trust the file as your own code, "
            "import what it needs and add --trust (trust=True)"
        )


def is_registered(kind: Any) -> bool:
    """Whether a type in a config is the name of something registered, alone, by scope, or in full.

    Args:
        kind: For example ``'RetinaNet'``, ``'mmdet.RetinaNet'``, ``'mmdet.models.RetinaNet'``.
    """
    if not isinstance(kind, str):
        return False
    scope, _, name = kind.rpartition(".")
    if name in _EVALUATES:
        return False
    if "." in scope:
        return _registered(kind) is not None
    known = any(name in registry.module_dict for registry in _registries())
    return scope in ("", *_LIBRARIES) and (known or kind in (*_SUPPRESSIONS, *_LAYERS))


def _registered(full_name: str) -> Any:
    """What a full name like ``mmdet.models.RetinaNet`` stands for, None unless it is registered.

    Its module is imported if it is one of :data:`_LIBRARIES`.
    """
    if full_name.partition(".")[0] not in _LIBRARIES:
        return None
    found = get_object_from_string(full_name)
    kinds = (kind for one in _registries() for kind in one.module_dict.values())
    return found if any(found is kind for kind in kinds) else None


def _dicts(value: Any) -> Iterator[Mapping]:
    """All dicts in a config."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    for item in value if isinstance(value, list | tuple) else ():
        yield from _dicts(item)


def _registries() -> Iterator[Registry]:
    """All registries of OpenMMLab, of every scope."""
    for one in vars(root).values():
        if isinstance(one, Registry):
            yield one
            yield from one.children.values()
