"""CUDA graphs for inference at few sizes: one launch for a whole pass."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

SIZES = 8
"""Sizes of a batch of which a graph is kept; each holds the memory of all maps of a pass."""


def replay_by_size(backbone: nn.Module, sizes: int = SIZES) -> None:
    """Record a backbone's passes without gradient on a GPU, one for each size, and replay them.

    Other passes run as before: with gradient, in training mode, on another device, or while
    something else records. If more sizes come than are kept, one warning says so, and from then on
    all passes run as before. Weights may change in place. If they move (``to``,
    ``load_state_dict(assign=True)``), passes are recorded anew.

    Args:
        backbone: Module from images to a tuple of feature maps; changed in place.
        sizes: Sizes of which a graph is kept. Defaults to 8.
    """
    recorded = Recorded(backbone, sizes)
    backbone._compiled_call_impl = recorded


class Recorded:
    """The call of a module, replayed from CUDA graphs by shape, type and strides of its input."""

    def __init__(self, module: nn.Module, sizes: int):
        self.module, self.sizes = module, sizes
        self.call = module._compiled_call_impl or module._call_impl
        self.kept: dict[tuple, tuple[Any, Tensor, tuple[Tensor, ...]]] = {}
        self.given_up = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay, record, or run the module."""
        if kwargs or len(args) != 1 or self.given_up or not self._may_replay(args[0]):
            return self.call(*args, **kwargs)
        x = args[0]
        key = self._key(x)
        if key not in self.kept:
            weights = key[-1]
            self.kept = {k: v for k, v in self.kept.items() if k[-1] == weights}
            if len(self.kept) == self.sizes:
                self.given_up = True
                self.kept.clear()
                print_log(
                    f"CUDA graphs are given up after {self.sizes} sizes of batches, as each holds "
                    "memory: bring pictures to few sizes, or leave mode='reduce-overhead' out",
                    "current",
                    logging.WARNING,
                )
                return self.call(x)
            self.kept[key] = self._record(x)
        graph, given, outs = self.kept[key]
        given.copy_(x)
        graph.replay()
        return tuple(out.clone() for out in outs)  # the next replay writes over them

    def _may_replay(self, x: Any) -> bool:
        return (
            isinstance(x, Tensor)
            and x.is_cuda
            and not torch.is_grad_enabled()
            and not self.module.training
            and not torch.compiler.is_compiling()
            and not torch.cuda.is_current_stream_capturing()
        )

    def _key(self, x: Tensor) -> tuple:
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        weights = tuple(p.data_ptr() for p in self.module.parameters())
        return x.shape, x.stride(), x.dtype, x.device, autocast, weights

    def _record(self, x: Tensor) -> tuple[Any, Tensor, tuple[Tensor, ...]]:
        given = x.clone(memory_format=torch.preserve_format)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        casts = torch.is_autocast_enabled("cuda")
        # What autocast keeps of cast weights is freed when it ends; a graph would read it later.
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), casts, cache_enabled=False):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # compilers and choices of algorithms come first
                for _ in range(3):
                    self.call(given)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph):
                outs = self.call(given)
        return graph, given, tuple(outs)
