"""Batch norms of foreign modules (ResNet, necks, heads, timm) into the convolutions before them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from mmcv.cnn import ConvModule
from torch import nn

from .folding import absorb_scale, batch_norm_factors, has_batch_norm_factors
from .layers import is_hooked


def fold_batch_norms(model: nn.Module, but: Sequence[nn.Module] = ()) -> None:
    """Fold every batch norm that follows a convolution at once, in place.

    Args:
        model: Model in eval mode.
        but: Modules to leave alone, with all below them.
    """
    for child in model.children():
        if child not in but:
            fold_batch_norms(child, but)
    for conv_name, norm_name in list(_conv_norm_pairs(model)):
        conv, norm = getattr(model, conv_name), getattr(model, norm_name)
        conv = copy.deepcopy(conv)  # heads may share one between levels that have norms each
        absorb_scale(conv, *batch_norm_factors(norm))
        setattr(model, conv_name, conv)
        setattr(model, norm_name, _remains(norm))


def _conv_norm_pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of the convolutions in a module whose output goes into a batch norm and nowhere else.

    Modules do not say in which order they run their parts. These do, by how the libraries write
    them: neighbours in a ``Sequential``, the parts of a ``ConvModule``, neighbours in a module of
    timm, and ``conv1`` with ``bn1`` or ``norm1`` right after it. (A norm that comes before its
    convolution is also written before it.)
    """
    children = dict(parent.named_children())
    if isinstance(parent, ConvModule):
        order = parent.order
        follows = "norm" in order and order.index("norm") == order.index("conv") + 1
        pairs = [("conv", parent.norm_name)] if follows and parent.with_norm else []
    else:
        neighbours = list(zip(children, list(children)[1:], strict=False))
        ordered = isinstance(parent, nn.Sequential) or _is_of(parent, "timm.")
        pairs = [
            (conv, norm)
            for conv, norm in neighbours
            if ordered or norm in (conv.replace("conv", "bn", 1), conv.replace("conv", "norm", 1))
        ]
    for conv, norm in pairs:
        is_plain = type(children[conv]) is nn.Conv2d and not is_hooked(children[conv])
        if is_plain and _is_batch_norm(children[norm]):
            yield conv, norm


def _is_batch_norm(module: nn.Module) -> bool:
    """A batch norm with statistics of its own; timm's with an activation included."""
    return has_batch_norm_factors(module) or (
        _has_act(module)
        and isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
        and module.running_var is not None
    )


def _has_act(norm: nn.Module) -> bool:
    return _is_of(norm, "timm.") and hasattr(norm, "act")


def _is_of(module: nn.Module, package: str | tuple[str, ...]) -> bool:
    return type(module).__module__.startswith(package)


def _remains(norm: nn.Module) -> nn.Module:
    """What a batch norm does beside normalising: timm's drops and activates."""
    if _has_act(norm):
        return nn.Sequential(norm.drop, norm.act).eval()
    return nn.Identity()
