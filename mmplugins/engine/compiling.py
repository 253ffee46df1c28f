"""One switch for the compiler: every block of a backbone, compiled once and reused by its likes.

A whole model compiles for minutes, and again whenever the objects of a picture change a shape in
its head. Its blocks repeat: ``torch.compile`` meets one block of each structure, and all others of
that structure run the same code with their own weights. Names of parameters do not change.

What the compiler made is kept in a folder, :func:`cache_folder`, which the next run reads.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.utils import digit_version
from torch import Tensor, nn

from ..backbones.deploy_state import is_deployed
from ..backbones.pyramid import PyramidBackbone
from .cuda_graphs import replay_by_size

GRAPHS_KEPT = 64
"""Graphs that PyTorch may keep of one structure: by mode, precision, and few or many sizes."""

TORCH_2_4 = digit_version(torch.__version__) < digit_version("2.5")
"""Known of 2.4.1; what lies between it and 2.15 is not known."""

Graph = Callable[..., Any]

_numbers = itertools.count()


def compile_blocks(
    model: nn.Module,
    memory_budget: float = 0.5,
    *,
    dynamic: bool | None = None,
    mode: str | None = None,
    freeze: bool = False,
    backend: str = "inductor",
) -> nn.Module:
    """Have the blocks of a model's backbone compiled, in place, when they are first called.

    It may be called before or after weights are loaded, the model is moved, deployed, frozen or
    wrapped for several processes. Copies and pickles of the model are not compiled. Where no
    compiler works, one warning says what to do, and the blocks run eager.

    Args:
        model: A backbone, or a detector or segmentor with a part ``backbone``.
        memory_budget: How much of what the backward pass could keep is kept, from 0 (compute all a
            second time) to 1 (what is fastest). Defaults to 0.5, at most half of what eager
            training keeps, for about the time of 1.
        dynamic: Policy for pictures of changing sizes. None compiles for the first size and then,
            when another comes, for all; True for all sizes at once, which gives the same bits
            however training is interrupted; False for each size anew. Defaults to None.
        mode: ``'reduce-overhead'`` replays each pass without gradient as one CUDA graph, for few
            sizes; the other modes are those of ``torch.compile``. Defaults to None.
        freeze: Whether passes without gradient take the weights as constants, laid out for the
            processor once. The backbone is then one graph for each size of pictures, so that
            what lies between two blocks is joined too: for one size. Weights that change
            afterwards are not seen: for the deployed form, with its weights loaded. Defaults to
            False.
        backend: Backend of ``torch.compile``. Defaults to ``'inductor'``.

    Returns:
        ``model``.

    Raises:
        ValueError: If there is no backbone, the budget is not between 0 and 1, the mode is
            unknown, weights are to be frozen that may still change or for all sizes at once, or
            the backbone has ``with_cp`` on torch 2.4, which cannot compile while it recomputes.
    """
    block_compiler(model, memory_budget, dynamic=dynamic, mode=mode, freeze=freeze, backend=backend)
    return model


def block_compiler(
    model: nn.Module,
    memory_budget: float = 0.5,
    *,
    dynamic: bool | None = None,
    mode: str | None = None,
    freeze: bool = False,
    backend: str = "inductor",
) -> Compiler:
    """:func:`compile_blocks`, which returns what compiles."""
    backbone = model if isinstance(model, PyramidBackbone) else getattr(model, "backbone", None)
    if backbone is None:
        raise ValueError(
            f"compile_blocks: {type(model).__name__} has no part called backbone; give a backbone, "
            "or a detector or segmentor"
        )
    if not 0 <= memory_budget <= 1:
        raise ValueError(f"memory_budget={memory_budget}: expected a share from 0 to 1")
    modes = torch._inductor.list_mode_options()
    if mode is not None and mode not in modes:
        raise ValueError(f"mode={mode!r}: expected None or one of {', '.join(modes)}")
    if freeze and not (is_deployed(model) or is_deployed(backbone)):
        raise ValueError(
            "freeze=True is for inference with weights that stay as they are: deploy the model "
            "first (mmplugins.deployment.reparameterize(model.eval())), or leave freeze out"
        )
    if freeze and dynamic:
        raise ValueError(
            "freeze=True and dynamic=True: PyTorch lays out constants for one size; choose one"
        )
    if TORCH_2_4 and getattr(backbone, "with_cp", False):
        raise ValueError(
            f"with_cp=True and compiled blocks: torch {torch.__version__} cannot recompute what it "
            "compiles meanwhile; leave with_cp out (memory_budget recomputes as well), or use a "
            "newer torch"
        )
    _prepare_compiler()
    graphs = mode == "reduce-overhead"
    options = {} if mode is None or graphs else modes[mode]
    compiler = Compiler(backend, memory_budget, options, freeze)
    functions: dict[tuple, Graph] = {}
    for block in [backbone] if freeze else blocks_of(backbone):
        structure = structure_of(block)
        if structure not in functions:
            own = _own_code(next(_numbers))
            functions[structure] = torch.compile(
                own, backend=compiler, dynamic=False if freeze else dynamic
            )
        function = functions[structure]
        # What `nn.Module.compile` sets, and leaves out of copies and pickles; shared here.
        block._compiled_call_impl = partial(compiler.run, function, block)
    if graphs:
        replay_by_size(backbone)
    return compiler


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """What repeats in a backbone: the members of its innermost sequences of one class.

    A backbone in which nothing repeats is one block.
    """
    found = list(_repeated(backbone))
    return found or [backbone]


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        inner = list(_repeated(child))
        if inner:
            yield from inner
        elif isinstance(child, nn.Sequential | nn.ModuleList) and len(child):
            alike = {type(member) for member in child}
            if len(alike) == 1 and all(any(member.children()) for member in child):
                yield from child


def structure_of(block: nn.Module) -> tuple:
    """What two blocks must have in common to share a function: their classes and shapes.

    Where they differ in more, the compiler notices, and makes a graph for each.
    """
    modules = tuple((name, type(module)) for name, module in block.named_modules())
    tensors = (*block.named_parameters(), *block.named_buffers())
    return modules, tuple((name, t.shape, t.dtype, t.requires_grad) for name, t in tensors)


def cache_folder() -> str:
    """Where the compiler keeps what it made, for the next run: ``TORCHINDUCTOR_CACHE_DIR``.

    Without that variable it is ``torchinductor_<user>`` in the folder for temporary files, which
    is often emptied when the machine starts.
    """
    from torch._inductor import codecache

    return codecache.cache_dir()


class Compiler:
    """A backend of ``torch.compile`` that says what it does and never stops a run.

    Args:
        backend: The backend that compiles.
        memory_budget: As in :func:`compile_blocks`.
        options: Settings of the backend.
        freeze: As in :func:`compile_blocks`.

    Attributes:
        graphs: Number of graphs compiled.
        seconds: Time spent on them.
        failed: Whether a graph could not be compiled; from then on all run eager.
    """

    def __init__(
        self, backend: str, memory_budget: float, options: dict[str, Any], freeze: bool = False
    ):
        self.backend, self.memory_budget, self.options = backend, memory_budget, options
        self.freeze = freeze
        self.graphs, self.seconds, self.failed = 0, 0.0, False

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Graph:
        """Compile a graph; its own forward is returned where that fails."""
        if self.failed:
            return graph.forward
        start = time.perf_counter()
        settings = dict(config_patches=self.options) if self.options else {}
        try:
            with _training_settings(self.memory_budget):
                compiled = torch._dynamo.lookup_backend(self.backend)(graph, inputs, **settings)
        except Exception as error:  # a compiler may fail in any way
            self._give_up(error)
            return graph.forward
        self.graphs += 1
        self.seconds += time.perf_counter() - start
        return compiled

    def run(self, function: Graph, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Call a block by its compiled function, or eager where that cannot be made."""
        if not self.failed:
            try:
                with _freezing() if self.freeze else contextlib.nullcontext():
                    return function(block, *args, **kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                self._give_up(error)
        return block._call_impl(*args, **kwargs)

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        print_log(_remedy(error), "current", logging.WARNING)


def _remedy(error: Exception) -> str:
    what = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        return (
            f"Blocks run eager, as there is no C++ compiler ({what}): install g++ (for example "
            "apt-get install g++), or train without --compile"
        )
    return (
        f"Blocks run eager, as the compiler failed ({what}): train without --compile, or see why "
        "with TORCH_LOGS=+inductor"
    )


def _prepare_compiler() -> None:
    """Settings of PyTorch's compiler that have no argument; each widens what it takes."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor
    import torch.fx.experimental._config as shapes

    limit = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"
    setattr(dynamo, limit, max(getattr(dynamo, limit), GRAPHS_KEPT))
    if hasattr(shapes, "use_duck_shape"):
        shapes.use_duck_shape = False  # sides that are equal once may differ the next time
    inductor.fx_graph_cache = True
    if TORCH_2_4:
        dynamo.inline_inbuilt_nn_modules = True  # else each block is a graph of its own


def _training_settings(memory_budget: float) -> contextlib.AbstractContextManager:
    """The budget, and backward passes compiled at once: an error in ``backward()`` ends a run."""
    import torch._functorch.config as functorch

    settings: dict[str, Any] = dict(activation_memory_budget=memory_budget)
    if hasattr(functorch, "force_non_lazy_backward_lowering"):
        settings["force_non_lazy_backward_lowering"] = True
    return functorch.patch(settings)


def _freezing() -> contextlib.AbstractContextManager:
    """The setting that must hold when a pass is traced, not only when its graph is compiled."""
    import torch._inductor.config as inductor

    return inductor.patch(freezing=True)


def _own_code(number: int) -> Graph:
    """A function that calls a block, with a code object of its own.

    PyTorch keeps graphs, and learns which sizes change, by code object and name. That of
    ``nn.Module`` is one for all structures, whose different widths would look like changing sizes.
    """

    def call(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return block._call_impl(*args, **kwargs)

    call.__code__ = call.__code__.replace(co_name=f"block_{number}")
    return call
