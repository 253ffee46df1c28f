"""Where the time of a model goes by kind of operation: products, pooling, norms, copies, calls.

Every operator that PyTorch dispatches is a lap of its own, named by its kind; what lies between two
of them, Python and PyTorch's own calling, is ``'calls'``. Watching makes each call some
microseconds longer, all of which count as calls: many small operators show there, a bit too large.

:mod:`torch.profiler` tells the same and more. But it takes seconds to put the events of a training
step together, for which every sample of every row would wait, and it writes to the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .stopwatch import Stopwatch

CALLS, OTHER = "calls", "other"

KINDS = {
    "pointwise": "mm addmm mv addmv",
    "convolutions": "convolution convolution_backward",
    "attention": "bmm baddbmm _softmax _softmax_backward_data",
    "activations": "gelu gelu_backward relu threshold_backward silu silu_backward sigmoid "
    "sigmoid_backward",
    "norms, sums": "native_layer_norm native_layer_norm_backward native_group_norm "
    "native_group_norm_backward native_batch_norm native_batch_norm_backward cudnn_batch_norm "
    "cudnn_batch_norm_backward var var_mean sum mean linalg_vector_norm",
    "pooling": "avg_pool2d avg_pool2d_backward max_pool2d_with_indices "
    "max_pool2d_with_indices_backward _adaptive_avg_pool2d _adaptive_avg_pool2d_backward",
    "by element": "add sub rsub mul div addcmul addcdiv lerp sqrt rsqrt pow neg exp log maximum "
    "minimum clamp clamp_min clamp_max where eq ne lt le gt ge abs sgn bernoulli",
    "copies": "copy clone _to_copy cat stack fill zero zeros new_zeros zeros_like new_full full "
    "ones new_ones ones_like arange repeat index index_put index_select index_fill masked_fill "
    "gather scatter slice_backward select_backward",
    "resizing": "upsample_nearest2d upsample_nearest2d_backward upsample_bilinear2d "
    "upsample_bilinear2d_backward",
    "boxes, losses": "nms roi_align _roi_align_backward roi_pool _roi_pool_backward sort topk "
    "nonzero _unique2 randperm binary_cross_entropy_with_logits _log_softmax "
    "_log_softmax_backward_data nll_loss_forward nll_loss_backward nll_loss2d_forward "
    "nll_loss2d_backward",
    "optimizer": "_fused_adamw _fused_adam _fused_sgd _foreach_add _foreach_mul _foreach_addcmul "
    "_foreach_addcdiv _foreach_lerp _foreach_sqrt _foreach_div _foreach_pow _foreach_neg",
}
"""Kinds of operations and their operators; of ``add`` and ``add_`` only the first is listed."""

FUSED_ATTENTION = "_scaled_dot_product"
"""How the names of attention's operators, which differ by device, and of their gradients begin."""

_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}


def kind_of(name: str, args: tuple) -> str:
    """The kind of an operator.

    Args:
        name: Without namespace and overload, such as ``'add_'``.
        args: What it is called with: a convolution of 1 x 1 pixels is pointwise.

    Returns:
        A key of :data:`KINDS`, or ``'other'``.
    """
    if name.startswith(FUSED_ATTENTION):
        return "attention"
    kind = _KIND_OF.get(name.removesuffix("_"), OTHER)
    if kind == "convolutions":
        maps = [arg for arg in args if isinstance(arg, Tensor) and arg.ndim == 4]
        # The weight is behind the map, and in the backward pass behind the map's gradient too.
        if maps and tuple(maps[-1].shape[2:]) == (1, 1):
            return "pointwise"
    return kind


class ByOperation(TorchDispatchMode):
    """Inside, every operator is a lap of a stopwatch, named by its kind.

    Args:
        watch: The stopwatch.
    """

    def __init__(self, watch: Stopwatch):
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.watch.lap(CALLS)
        result = func(*args, **(kwargs or {}))
        self.watch.lap(kind_of(func.overloadpacket.__name__, args))
        return result


def by_operation(run: Callable[[Stopwatch], Any]) -> Callable[[Stopwatch], None]:
    """The same work with a lap for each kind of operation in it.

    Args:
        run: What to do; its own laps are not taken.
    """

    def watched(watch: Stopwatch) -> None:
        with ByOperation(watch):
            run(_Idle(watch.device))
        watch.lap(CALLS)

    return watched


class _Idle(Stopwatch):
    """A stopwatch that nobody reads."""

    def lap(self, name: str) -> None:
        pass
