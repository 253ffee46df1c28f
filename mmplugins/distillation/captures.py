"""Records what modules take and return in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from .errors import DistillationError


class Call(NamedTuple):
    """One call of a module: its positional arguments and what it returned."""

    args: tuple[Any, ...]
    output: Any


def stay_visible(module: nn.Module, args: tuple, output: Any) -> None:
    """A hook that does nothing.

    A backbone may compute a module together with its neighbours if the module has no hook. With
    ``with_cp``, the backward pass recomputes blocks, and must take the path of the forward pass.
    So modules that are recorded in the forward pass keep this hook.
    """


class Captures:
    """A context that records the calls of some modules of a model.

    Entering adds the hooks, and leaving removes them. So a recomputation in the backward pass
    (``with_cp``) is not recorded, and a copy of the model has no hooks.

    Args:
        model: The model.
        names: Names of the modules, as in ``model.named_modules()``.

    Raises:
        DistillationError: If the model has no module of such a name.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]):
        self.model = model
        self._calls: dict[str, list[Call]] = {name: [] for name in names}
        self._hooks: list[Any] = []

    def __enter__(self) -> Captures:
        for name, calls in self._calls.items():
            try:
                module = self.model.get_submodule(name)
            except AttributeError:
                raise DistillationError(
                    f"{type(self.model).__name__} has no module {name!r}: see the names of "
                    "model.named_modules()"
                ) from None

            # The hook computes nothing. The recomputation of with_cp has no hook, and must save
            # the same tensors.
            def record(module: nn.Module, args: tuple, output: Any, calls: list = calls) -> None:
                calls.append(Call(args, output))

            self._hooks.append(module.register_forward_hook(record))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __getitem__(self, name: str) -> Call:
        """The call of a module.

        Raises:
            DistillationError: If it was not called exactly once.
        """
        calls = self._calls[name]
        if len(calls) != 1:
            raise DistillationError(
                f"module {name!r} of {type(self.model).__name__} was called {len(calls)} times in "
                "one forward pass: expected once; name another module"
            )
        return calls[0]
