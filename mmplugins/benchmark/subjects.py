"""Rows made into models that can be run, timed and trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmplugins.engine.compiling import Compiler, block_compiler
from mmplugins.engine.hooks.channels_last import to_channels_last

from .models import build_model, fold, model_in
from .rows import MMPRETRAIN, TIMM, Row
from .runtimes import export_row, load_file
from .whole_models import run_network, training_loss


class Subject:
    """A row as a model on a device.

    Args:
        row: What to build; with PyTorch's random start, the same each time.
        device: Where to.
        weights: State dict for a backbone, loaded before folding and casting. Defaults to None.
        **overrides: Further arguments of a backbone's class, such as ``out_norm``.

    Attributes:
        row: The row.
        device: Its device.
        model: The module, eager; in eval mode. Of a row of another runtime it is only counted.
        compiled: Whether calls go through a compiled backbone, see :meth:`compile`.

    Raises:
        ValueError: If the name is unknown, or an option does not apply.
    """

    def __init__(
        self,
        row: Row,
        device: str | torch.device = "cpu",
        weights: Mapping[str, Tensor] | None = None,
        **overrides: Any,
    ):
        self.row = row
        self.device = torch.device(device)
        self.compiled = False
        self._compiler: Compiler | None = None
        if row.runtime and self.device.type != "cpu":
            raise ValueError(f"{row.label}: {row.runtime} is measured on CPUs; use --device cpu")
        if row.graphs and self.device.type != "cuda":
            raise ValueError(f"{row.label}: CUDA graphs need a GPU; use --device cuda")
        self._exported = load_file(row) if row.exported else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            known = self._exported
            model = model_in(known) if known is not None else build_model(row, overrides)
        if weights is not None:
            model.load_state_dict(weights)
        model.eval()  # mmpretrain's returns None
        model = model.to(self.device)
        if row.deploy or row.runtime:
            fold(model)
        if row.channels_last:
            to_channels_last(model)
        self.pure = row.dtype != "float32" and not (row.whole or row.runtime)
        if self.pure:
            model = model.to(getattr(torch, row.dtype))
        self.model = model
        if row.runtime and not row.exported:
            self._exported = export_row(row, model)

    @property
    def backbone(self) -> nn.Module:
        """The backbone: the model itself, or a part of it."""
        return self.model.backbone if self.row.whole else self.model

    def images(self, size: tuple[int, int], batch: int = 1) -> Tensor:
        """Made-up normalised pictures ``[batch, 3, H, W]``, in the row's dtype and memory format.

        For exported files, which normalise, they are of 0..255.
        """
        random = torch.Generator().manual_seed(0)
        if self.row.exported:
            return torch.rand(batch, 3, *size, generator=random) * 255
        images = torch.randn(batch, 3, *size, generator=random).to(self.device)
        if self.row.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images.to(getattr(torch, self.row.dtype)) if self.pure else images

    def infer(self, images: Tensor) -> Any:
        """One inference pass."""
        if self._exported is not None:
            return self._exported(images.numpy())
        with torch.no_grad(), self._autocast(not self.pure):
            found = run_network(self.model, images) if self.row.whole else self.model(images)
        self._require_compiled()
        return found

    def loss(self, images: Tensor) -> Tensor:
        """Forward pass of training: a detector's losses, or a backbone's mean squares.

        The gradients of mean squares differ from place to place, as a neck's do. The gradient of a
        plain mean is one number, which a compiler that sees the whole backbone makes a constant.
        """
        with self._autocast(True):
            if self.row.whole:
                loss = training_loss(self.model, images)
            else:
                loss = sum(x.float().square().mean() for x in self.model(images))
        self._require_compiled()
        return loss

    def compile(self) -> None:
        """Have the backbone compiled for each size, from the next call on.

        Ours by block, as ``--compile`` of the tools does it, or whole with the weights as
        constants; those of other code bases whole.
        """
        if self.row.name.startswith((TIMM, MMPRETRAIN)):
            self.backbone.forward = torch.compile(_own_code(self.backbone.forward), dynamic=False)
        else:
            mode = "reduce-overhead" if self.row.graphs else None
            self._compiler = block_compiler(
                self.backbone, dynamic=False, mode=mode, freeze=self.row.freeze
            )
        self.compiled = True

    def _require_compiled(self) -> None:
        """Refuse a pass whose blocks went on eager, which would be timed under a wrong name.

        Raises:
            RuntimeError: If they did; the log has the reason.
        """
        if self._compiler is not None and self._compiler.failed:
            raise RuntimeError(f"{self.row.label}: the compiler failed; the log says why")

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """The model in training mode and in float32 inside.

        Raises:
            ValueError: If the row is deployed or exported, as these forms are for inference.
        """
        if not self.row.trains:
            raise ValueError("deployed or exported: this form is for inference only")
        pure, self.pure = self.pure, False
        if pure:
            self.model.float()
        self.model.train()
        try:
            yield
        finally:
            self.model.zero_grad(set_to_none=True)
            self.model.eval()
            self.pure = pure
            if pure:
                self.model.to(getattr(torch, self.row.dtype))

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, fused, over all that is trained, with steps too small to change anything."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=1e-7, fused=True)

    def _autocast(self, here: bool) -> contextlib.AbstractContextManager:
        if not here or self.row.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.row.dtype))


def _own_code(forward: Callable) -> Callable:
    """A function of its own code object that calls ``forward``.

    torch.compile keeps its results, and counts recompilations, by code object, which all models
    of a class share otherwise: beyond the eighth row it would quietly run eager.
    """

    def call(x):
        return forward(x)

    call.__code__ = call.__code__.replace(co_name=f"forward_{id(forward)}")
    return call
