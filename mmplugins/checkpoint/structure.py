"""What the containers in a weight file may be: finite, flat enough, and no larger than the file.

A few hundred bytes can spell a dict that contains itself, or tuples of tuples whose hash takes an
hour. The first look is at the pickle's instructions, before anything is built; the second at what
was built, before anybody walks through it.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO, Any

from torch import Tensor

MAX_DEPTH = 64
"""Containers within containers; a checkpoint of mmengine has about ten."""

MAX_KEY = 100
"""Parts of a tuple that is a key of a dict."""

SLACK = 100_000
"""Items that a file of any size may have."""


class StructureError(ValueError):
    """Containers as no writer of weights makes them; the message says how, without the file."""


def check_instructions(file: IO[bytes], size: int) -> None:
    """Look through one pickle and refuse what would take longer to build than to read.

    Args:
        file: At the beginning of the pickle; afterwards behind its end.
        size: Bytes of the whole file.

    Raises:
        StructureError: If a key is a large tuple, or shared parts multiply beyond the file.
        ValueError: If it is no pickle.
    """
    limit = size + SLACK
    stack: list[Any] = []
    memo: dict[int, list[int]] = {}
    mark = object()

    def pop_to_mark() -> list[list[int]]:
        at = len(stack) - 1 - stack[::-1].index(mark)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def keys(parts: list[list[int]]) -> None:
        if any(part[0] > MAX_KEY for part in parts):
            raise StructureError("a key is a tuple of tuples, as the names of weights never are")

    arg: Any
    for op, arg, _ in pickletools.genops(file):
        name = op.name
        if name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(arg)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(arg)])
        elif name == "MARK":
            stack.append(mark)
        elif name == "POP_MARK":
            pop_to_mark()
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            items = pop_to_mark()
            if name != "APPENDS":
                keys(items[:: 2 if name == "SETITEMS" else 1])
            stack[-1][0] += sum(item[0] for item in items)
        elif name in ("APPEND", "SETITEM", "BUILD"):
            items = [stack.pop() for _ in range(2 if name == "SETITEM" else 1)]
            keys(items[1:])
            stack[-1][0] += sum(item[0] for item in items)
        elif op.stack_before and pickletools.markobject in op.stack_before:
            items = pop_to_mark()
            if name in ("DICT", "FROZENSET"):
                keys(items[:: 2 if name == "DICT" else 1])
            stack.append([1 + sum(item[0] for item in items)])
        else:
            popped = [stack.pop() for _ in op.stack_before]
            total = 1 + sum(item[0] for item in popped)
            stack.extend([total] for _ in op.stack_after)
        if stack and stack[-1] is not mark and stack[-1][0] > limit:
            raise StructureError(
                f"it spells more than {limit:,} items by naming the same ones again and again"
            )


def check_structure(content: Any, size: int) -> None:
    """Refuse content that contains itself, is too deep, or is larger than its file when walked.

    Args:
        content: What was read.
        size: Bytes of the file.

    Raises:
        StructureError: If so.
    """
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def walk(value: Any, depth: int) -> int:
        _check_attributes(value)
        if not isinstance(value, dict | list | tuple | set | frozenset):
            return 1
        if id(value) in open_:
            raise StructureError("a container in it contains itself")
        if id(value) in sizes:
            return sizes[id(value)]
        if depth > MAX_DEPTH:
            raise StructureError(f"its containers are more than {MAX_DEPTH} deep")
        open_.add(id(value))
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        total = 1 + sum(walk(item, depth + 1) for item in items)
        if total > size + SLACK:
            raise StructureError(f"it has more than {size + SLACK:,} items when walked through")
        open_.discard(id(value))
        sizes[id(value)] = total
        return total

    walk(content, 0)


def _check_attributes(value: Any) -> None:
    """Refuse dicts and tensors with attributes that stand in the place of their methods."""
    if isinstance(value, OrderedDict):
        found = vars(value)
        metadata = found.get("_metadata", {})
        known = found.keys() <= {"_metadata"} and isinstance(metadata, Mapping)
        if not known or not all(_is_version(k, v) for k, v in metadata.items()):
            raise StructureError("a dict in it has attributes that state dicts do not have")
    elif isinstance(value, Tensor) and any(not n.startswith("_") for n in vars(value)):
        raise StructureError("a tensor in it has attributes that weights do not have")


def _is_version(name: Any, entry: Any) -> bool:
    """Whether an entry of a state dict's metadata is what torch writes: versions by module."""
    if not isinstance(name, str) or not isinstance(entry, Mapping):
        return False
    return all(isinstance(k, str) and type(v) in (int, bool, type(None)) for k, v in entry.items())
