"""What a constructor says when it refuses, in words of the config: where, what, and what else.

OpenMMLab builds nearly every part from ``dict(type=...)``, deep inside of other parts. While
:func:`watched` is in force, the innermost dict that was being built, and the names that no registry
knew, are kept with the error. :func:`explain` finds that dict in the config again.
"""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from mmplugins.engine.config.constructors import accepted_arguments, class_of
from mmplugins.utils import did_you_mean, few, type_name

SCOPES = ("mmdet", "mmseg")

_NUMBERS = re.compile(r"[\d\s.,e()\[\]+-]*\d[\d\s.,e()\[\]+-]*")
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_DEFAULT_HOOKS = ("timer", "logger", "param_scheduler", "checkpoint", "sampler_seed",
                  "visualization")  # fmt: skip
_OWN_CLASS = " (a class of your own must be in a module that custom_imports names)"


@contextmanager
def watched() -> Iterator[None]:
    """Keep, with each error that leaves a registry's ``build``, what was being built."""
    plain_build, plain_get = Registry.build, Registry.get
    unknown: list[tuple[Registry, str]] = []

    def build(self: Registry, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return plain_build(self, cfg, *args, **kwargs)
        except Exception as error:
            inner = next((vars(e) for e in _causes(error) if "part" in vars(e)), None)
            known = inner or dict(part=(self, cfg), unknown=_blamed(error, unknown))
            vars(error).update(part=known["part"], unknown=known["unknown"])
            raise

    def get(self: Registry, key: str) -> Any:
        try:
            found = plain_get(self, key)
        # Of mmengine, for "a.b.C" without a C in a.b; of Python, for what is no name of a module.
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            vars(error).update(part=(self, key), unknown=(self, key))
            raise
        if found is None:
            unknown.append((self, key))
        return found

    Registry.build, Registry.get = build, get
    try:
        yield
    except Exception as error:  # raised outside of any build, as by mmengine's data loaders
        if "part" not in vars(error):
            vars(error).update(part=None, unknown=_blamed(error, unknown))
        raise
    finally:
        Registry.build, Registry.get = plain_build, plain_get


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _blamed(error: Exception, unknown: list) -> tuple[Registry, str] | None:
    """The name that no registry knew, if the error speaks of it or of the None that came of it."""
    if not unknown:
        return None
    text = str(error)
    return unknown[-1] if any(w in text for w in (unknown[-1][1], "None", "callable")) else None


def explain(
    error: Exception, value: Any, where: str, scope: str, owner: Any = None
) -> tuple[str, str]:
    """Where in the config an error of building comes from, and what to say.

    Args:
        error: What was raised while :func:`watched` was in force.
        value: The config entry that was built.
        where: Its dotted path.
        scope: The default scope.
        owner: Class or function that takes the entry's arguments if no registry builds it.

    Returns:
        The path of the part that refused, as near as it can be told, and a message with the value,
        what was expected and the remedy.
    """
    if unknown := vars(error).get("unknown"):
        registry, name = unknown
        if not isinstance(name, str):
            return place_of(value, where, name), f"is {shown(name)}: expected the name of a class"
        return place_of(value, where, name), f"{name!r} is not there{_hint(registry, name, scope)}"
    if value is None or isinstance(value, str | int | float):
        return where, no_dict(value)
    registry, part = vars(error).get("part") or (None, None)
    if part is not None and not isinstance(part, Mapping):
        return place_of(value, where, part), no_dict(part)
    place = _locate(value, where, part) if part else where
    text = _text(error)
    if isinstance(part, Mapping) and part.get("type") is None:
        name = place.removeprefix("default_hooks.")
        near = did_you_mean(name, _DEFAULT_HOOKS) if name != place else ""
        return place, f"has no type: {shown(dict(part))}; give type='...', a class's name.{near}"
    if isinstance(part, Mapping) and not (isinstance(part["type"], str) or callable(part["type"])):
        return f"{place}.type", f"is {shown(part['type'])}: expected the name of a class"
    cls = class_of(registry, part) if part and registry else owner
    name = getattr(cls, "__name__", "") or (type_name(part) if part else "")
    takes = f"{name} takes {few(sorted(accepted_arguments(cls)), 12) or 'none'}" if cls else ""
    if isinstance(error, TypeError) and (found := _UNEXPECTED.search(text)):
        key = found[1]
        near = did_you_mean(key, accepted_arguments(cls)) if cls else ""
        if cls and key in (part or value):
            return f"{place}.{key}", f"{name} takes no such argument; {takes}.{near}"
        inner = next((w for w, _ in walk(value, where) if w.endswith(f".{key}")), place)
        return inner, f"{text}; take {key} out, or correct its spelling"
    if isinstance(error, TypeError) and "missing" in text and cls:
        return place, f"{name}: {text.partition('() ')[2] or text}; {takes}"
    if isinstance(error, KeyError) and re.fullmatch(r"[\w.]+", text):
        return place, f"has no {text!r}: {shown(part or value)}; add it"
    if text_at := _text_for_other(error, value, where, part or {}, place):
        return text_at
    said = text if isinstance(error, ValueError | KeyError) else in_words(error)
    said = f"{name}: {said}" if name else said
    for key, one in (part or (value if isinstance(value, Mapping) else {})).items():
        if key != "type" and re.search(rf"\b{key}\b", said):
            return f"{place}.{key}", f"is {shown(one)}: {said}"
    return place, said


def _text(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())


def _locate(value: Any, where: str, part: Mapping) -> str:
    """The path of a part's dict; builders pass copies, with some arguments taken out or put in."""
    best, place = -1, where
    for path, one in walk(value, where):
        if isinstance(one, Mapping) and one.get("type") == part.get("type"):
            equal = sum(key in part and _same(part[key], one[key]) for key in one)
            if equal > best:
                best, place = equal, path
    return place


def place_of(value: Any, where: str, wanted: Any) -> str:
    """The path of a value, that of a ``type`` first."""
    found = [
        path for path, one in walk(value, where) if type(one) is type(wanted) and one == wanted
    ]
    return next((path for path in found if path.endswith(".type")), found[0] if found else where)


def _same(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except (RuntimeError, ValueError):  # arrays
        return a is b


def no_dict(part: Any) -> str:
    """What to say of a value where a dict with a type must stand."""
    if isinstance(part, str):
        return f"is {part!r}, a text: expected a dict, dict(type={part!r}, ...)"
    return f"is {shown(part)}: expected a dict, dict(type=...)"


def _text_for_other(
    error: Exception, value: Any, where: str, part: Mapping, place: str
) -> tuple[str, str] | None:
    """Numbers and names in quotes, of which a constructor's error seldom says where they are."""
    if not isinstance(error, TypeError | ValueError | AttributeError | AssertionError):
        return None
    if quoted := quoted_numbers(error, value, where):
        return quoted
    for path, one in walk(value, where):
        if isinstance(one, str) and path.endswith("]") and _is_part(one):
            return path, no_dict(one)
    for key, one in part.items():
        if key != "type" and isinstance(one, str) and _is_part(one):
            return f"{place}.{key}", no_dict(one)
    return None


def quoted_numbers(error: Exception, value: Any, where: str) -> tuple[str, str] | None:
    """Path of the first number in quotes below an entry, and what to say of it."""
    for path, one in walk(value, where):
        if isinstance(one, str) and path.rpartition(".")[2] != "type" and _NUMBERS.fullmatch(one):
            said = f"is {one!r}, a text: expected numbers, write them without quotes"
            return path, f"{said} ({in_words(error)})"
    return None


def _is_part(name: str) -> bool:
    """Whether a text is the name of a class that a dict could have as its type."""
    import mmengine.registry as registries

    if not name[:1].isupper() or not name.isidentifier():
        return False
    kinds = ("MODELS", "TRANSFORMS", "HOOKS", "METRICS", "PARAM_SCHEDULERS", "VISBACKENDS")
    for kind in kinds:
        with getattr(registries, kind).switch_scope_and_registry(None) as scoped:
            if scoped.get(name) is not None:
                return True
    return False


def _hint(registry: Registry, name: str, scope: str) -> str:
    """Where else a name is registered, or which names are near."""
    bare = name.rpartition(".")[2]
    for other in SCOPES:
        if (bare != name or other != scope) and registered_in(registry.name, bare, other):
            return (
                f" in {scope}: {other} has {bare!r}: write '{other}.{bare}', or set default_scope"
            )
    names: set[str] = set()
    level: Registry | None = registry
    while level is not None:
        names |= set(level.module_dict)
        level = level.parent
    near = did_you_mean(bare, names, count=3).strip()
    among = f" among the {registry.name}s of {registry.scope}"
    return f"{among}: {near or 'no registered name is near: check its spelling'}{_OWN_CLASS}"


def registered_in(registry: str, name: str, scope: str) -> bool:
    """Whether a scope itself, not its parents, has a name in its registry of a kind."""
    try:
        room = import_module(f"{scope}.registry")
    except (ImportError, AssertionError):
        return False
    for one in vars(room).values():
        if isinstance(one, Registry) and one.name == registry and one.scope == scope:
            one.import_from_location()
            return name in one.module_dict
    return False


def in_words(error: BaseException) -> str:
    """Type, place and text of an error on one line; a bare assertion shows what it compared."""
    place, text = "", " ".join(str(error).split())
    for frame, line in traceback.walk_tb(error.__traceback__):
        place = f" ({Path(frame.f_code.co_filename).name}:{line})"
    if not text and place:
        source = linecache.getline(frame.f_code.co_filename, line).strip()
        words = dict.fromkeys(re.findall(r"[a-zA-Z_][\w.]*", source))
        values = {word: _look_up(word, frame.f_locals) for word in words}
        said = [f"{word}={value}" for word, value in values.items() if value is not None]
        text = f"`{source}`" + (f" with {', '.join(said)}" if said else "")
        if asked := re.search(r"hasattr\((\w+), (\w+)\)", source):
            owner, name = (frame.f_locals.get(w, frame.f_globals.get(w)) for w in asked.groups())
            text += did_you_mean(name, dir(owner))
    return f"{type(error).__name__}{place}: {text}"


def _look_up(name: str, variables: Mapping[str, Any]) -> Any:
    """Value of a dotted name if it is one that can be shown in a few words."""
    first, *rest = name.split(".")
    value = variables.get(first)
    for attribute in rest:
        value = getattr(value, attribute, None)
    if isinstance(value, list | tuple) and all(isinstance(v, int | float | str) for v in value):
        return value
    return value if isinstance(value, int | float | str) else None


def shown(value: Any) -> str:
    """A value in at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def walk(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a config entry with its dotted path, the entry itself first."""
    yield where, value
    if isinstance(value, Mapping | Config):
        for key, inner in value.items():
            yield from walk(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for k, inner in enumerate(value):
            yield from walk(inner, f"{where}[{k}]")
