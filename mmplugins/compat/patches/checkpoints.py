"""Reading mmengine's own checkpoints without ever running code from them.

A checkpoint of mmengine holds, beside tensors, its log: ``HistoryBuffer`` objects with numpy
arrays. torch's weights-only reader refuses them, and the usual advice, to allow
``builtins.getattr`` and numpy's own constructors, gives the file's author too much: any
attribute of anything, and arrays of object pointers over bytes of his choice. So each name
that such a file spells stands here for a function that does just what is needed.
"""

import functools
import inspect
import re
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

from .patch import patch, rebind

_STATISTICS = ("min", "max", "current", "mean")
_SCALARS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class _Spelled:
    """What a name in a file stands for: a type that can be filled (BUILD) but not called.

    The reader compares types of objects with the allowed values; this equals the type it
    speaks for, so that objects which the functions below made may receive their state.
    """

    def __init__(self, of: type):
        self._of = of
        self.__module__, self.__name__, self.__qualname__ = of.__module__, of.__name__, of.__name__

    def __eq__(self, other: Any) -> bool:
        return other is self or other is self._of

    def __hash__(self) -> int:
        return hash(self._of)


def _spelled(function, name: str):
    """Return a copy of a function that the reader knows by another full name."""

    @functools.wraps(function)
    def known(*args):
        return function(*args)

    known.__module__, known.__name__ = name.rsplit(".", 1)
    known.__qualname__ = known.__name__
    return known


def _statistic_of_history(owner: Any, name: Any) -> Any:
    """Stand for ``builtins.getattr``: the four statistics of HistoryBuffer and nothing else."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise UnpicklingError(
            f"the file asks for getattr({owner!r}, {name!r}); only HistoryBuffer's own "
            f"{', '.join(_STATISTICS)} are read from checkpoints"
        )
    return vars(HistoryBuffer)[name]


def _scalar_dtype(kind: Any, align: Any = False, copy: Any = True) -> Any:
    """Stand for ``numpy.dtype``: numbers and truth values only.

    Never a copy, whatever the file says: numpy's own dtype objects ignore the state that the
    file gives next, and so cannot be turned into a dtype of object pointers.
    """
    import numpy

    if not isinstance(kind, str) or kind not in _SCALARS:
        raise UnpicklingError(f"arrays of dtype {kind!r} are not read from checkpoints")
    return numpy.dtype(kind)


def _empty_array(subtype: Any, shape: Any, typecode: Any) -> Any:
    """Stand for numpy's ``_reconstruct``: an empty array that its state will fill."""
    import numpy

    if subtype != numpy.ndarray:
        raise UnpicklingError(f"arrays of type {subtype!r} are not read from checkpoints")
    return numpy.empty(0, numpy.int8)


def _no_bytes() -> bytes:
    """Stand for ``builtins.bytes``, which spells the content of an empty array."""
    return b""


def _bytes(text: Any, encoding: Any) -> bytes:
    """Stand for ``_codecs.encode``, which spells bytes; torch allows its like itself since 2.5."""
    if not isinstance(text, str) or encoding != "latin1":
        raise UnpicklingError(f"not bytes: {text!r} in {encoding!r}")
    return text.encode("latin1")


def _scalar(dtype: Any, raw: Any) -> Any:
    """Stand for numpy's ``scalar``: one number of a dtype that `_scalar_dtype` let through."""
    import numpy

    if not isinstance(dtype, numpy.dtype) or not isinstance(raw, bytes):
        raise UnpicklingError(f"not a number: dtype {dtype!r}, value {raw!r}")
    return numpy.frombuffer(raw, dtype, count=1)[0]


@functools.cache
def allowed() -> tuple[Any, ...]:
    """Return what `torch.serialization.add_safe_globals` must know for mmengine's files."""
    import numpy
    from mmengine.logging.history_buffer import HistoryBuffer

    # numpy 1 and numpy 2 spell the same two functions differently, in files as in memory.
    homes = ("numpy.core.multiarray", "numpy._core.multiarray")
    return (
        HistoryBuffer,
        _spelled(_statistic_of_history, "builtins.getattr"),
        _spelled(_no_bytes, "builtins.bytes"),
        _spelled(_bytes, "_codecs.encode"),
        _spelled(_scalar_dtype, "numpy.dtype"),
        *(_spelled(_empty_array, f"{home}._reconstruct") for home in homes),
        *(_spelled(_scalar, f"{home}.scalar") for home in homes),
        _Spelled(numpy.ndarray),
        *{_Spelled(type(numpy.dtype(kind))) for kind in _SCALARS},
    )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


@patch("mmengine.logging.history_buffer", needed=lambda module: True)
def history_in_checkpoints(module: ModuleType) -> None:
    """``UnpicklingError ... HistoryBuffer`` on test, resume, inferencers, ``publish_model.py``.

    torch reads weights only since 2.6, and wherever ``weights_only=True`` is asked before.
    """
    _allow()


def _allow() -> None:
    from torch import serialization

    known = serialization.get_safe_globals()  # a list that keeps duplicates before torch 2.6
    serialization.add_safe_globals([one for one in allowed() if one not in known])


def _load_weights_only(*args: Any, **kwargs: Any) -> Any:
    import torch

    _allow()  # again: leaving other code's `safe_globals(...)` block may have taken ours away
    return torch.load(*args, **{**kwargs, "weights_only": True})


class _WeightsOnlyTorch(ModuleType):
    """torch, with a ``load`` that reads weights only."""

    load = staticmethod(_load_weights_only)

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)


@patch(
    "mmengine.runner.checkpoint", needed=lambda module: _release(module.torch.__version__) < (2, 6)
)
def weights_only_before_torch_2_6(module: ModuleType) -> None:
    """Older torch runs what the pickle in a checkpoint says unless told otherwise."""
    vars(module)["torch"] = _WeightsOnlyTorch("torch")


@patch("mmengine.runner.checkpoint", needed=lambda module: hasattr(module, "_safe_torch_load"))
def no_fall_back_to_pickle(module: ModuleType) -> None:
    """onedl-mmengine reads what the safe reader refuses once more, and then runs its code."""
    rebind(module, "_safe_torch_load", _load_weights_only)


def _runs_downloaded_code(module: ModuleType) -> bool:
    default = inspect.signature(module.load_url).parameters["weights_only"].default
    return default is False


@patch("mmengine.runner.checkpoint", needed=_runs_downloaded_code)
def weights_only_from_the_net(module: ModuleType) -> None:
    """``torch.hub.load_state_dict_from_url`` still runs code of downloaded files by default."""
    vars(module)["load_url"] = functools.partial(module.load_url, weights_only=True)
