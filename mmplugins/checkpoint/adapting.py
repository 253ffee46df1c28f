"""Weights whose shape follows the image: resampled to the model's instead of refused.

Two kinds of tensors fit a model of the same architecture and yet differ in shape: those tied to
the size of the training image, and the stem's first convolution for other than three channels.
timm's own rules serve timm's models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmplugins.backbones.metaformer import PositionEmbedding
from mmplugins.backbones.size_policy import resampling_matrix
from mmplugins.backbones.size_tied_mixers import RandomMixing, SparseMLP, SpatialFC

RGB = 3


def adapt(model: nn.Module, key: str, value: Tensor, wanted: torch.Size) -> tuple[Tensor, str]:
    """Fit a tensor of a checkpoint to the shape that a model wants, where a rule says how.

    Position embeddings are resampled (bicubic). The rows and columns of a sparse MLP and the
    matrices over all positions of random mixing and spatial FC are resampled by antialiased linear
    interpolation, with which the answer to constant input stays what it was (:mod:`mmplugins.\
backbones.size_policy`). A first convolution for three channels serves another number of them by
    timm's rule: one channel gets the sum over RGB; n channels get the three repeated in turn,
    times 3 / n, so that an image with equal channels gives the same map. Position embeddings and
    tables of relative positions of a timm model are resampled as timm's ``set_input_size`` does.

    Args:
        model: Backbone with our names.
        key: Name of the tensor in ``model``.
        value: Tensor of the checkpoint.
        wanted: Shape in the model.

    Returns:
        The fitted tensor and a phrase that says what was done, or ``value`` itself and ``''`` if
        no rule applies.
    """
    if value.ndim == 4 == len(wanted) and value.shape[1] == RGB:
        rest = (*value.shape[:1], *value.shape[2:])
        if rest == (*wanted[:1], *wanted[2:]):
            from timm.models import adapt_input_conv

            return adapt_input_conv(wanted[1], value), f"{RGB} -> {wanted[1]} input channels"
    rule = _resampling_rule(model, key)
    more = value.ndim - len(wanted)
    if more > 0 and len(wanted) and value.shape[-more:] == (1,) * more:
        value = value.flatten(len(wanted) - 1)  # a pointwise kernel where we have a matrix
    if rule is None or value.ndim != len(wanted) or not value.is_floating_point():
        return value, ""
    try:
        fitted = rule(value.float(), wanted).to(value.dtype)
    except (ValueError, RuntimeError):
        return value, ""
    if fitted.shape != wanted:
        return value, ""
    return fitted, f"resampled {_shape(value.shape)} -> {_shape(wanted)}"


def _resampling_rule(model: nn.Module, key: str) -> Callable[[Tensor, torch.Size], Tensor] | None:
    parent, _, name = key.rpartition(".")
    for path in (parent, parent.rpartition(".")[0]):
        try:
            module = model.get_submodule(path)
        except AttributeError:
            continue
        inner = key.removeprefix(f"{path}.")
        if name == "pos_embed" and hasattr(module, "patch_embed"):
            return partial(_resample_tokens, module)
        if name == "relative_position_bias_table" and hasattr(module, "window_size"):
            return partial(_resample_table, module)
        if isinstance(module, PositionEmbedding) and inner == "weight":
            return _resample_map
        if isinstance(module, SparseMLP) and inner.split(".")[0] in ("row", "column"):
            return _resample_lines
        if isinstance(module, RandomMixing | SpatialFC) and name in ("random_matrix", "weight"):
            return _resample_grid
    return None


def _resample_tokens(module: nn.Module, value: Tensor, wanted: torch.Size) -> Tensor:
    """Position embedding ``[1, N, C]`` of a timm model, class and register tokens first."""
    from timm.layers import resample_abs_pos_embed

    prefix = 0 if getattr(module, "no_embed_class", False) else module.num_prefix_tokens
    return resample_abs_pos_embed(value, module.patch_embed.grid_size, num_prefix_tokens=prefix)


def _resample_table(module: nn.Module, value: Tensor, wanted: torch.Size) -> Tensor:
    """Table of relative positions of a timm model, ``[positions, heads]``."""
    from timm.layers import resize_rel_pos_bias_table

    return resize_rel_pos_bias_table(value, module.window_size, wanted)


def _resample_map(value: Tensor, wanted: torch.Size) -> Tensor:
    """Position embedding ``[1, C, h, w]``."""
    return F.interpolate(value, wanted[-2:], mode="bicubic", align_corners=False)


def _resample_lines(value: Tensor, wanted: torch.Size) -> Tensor:
    """Matrix ``[n, n]`` or bias ``[n]`` over the positions of one line."""
    source, target = value.shape[0], wanted[0]
    to_target = resampling_matrix(source, target, value)
    if value.ndim == 1:
        return to_target @ value
    return to_target @ value @ resampling_matrix(target, source, value)


def _resample_grid(value: Tensor, wanted: torch.Size) -> Tensor:
    """Matrix ``[n^2, n^2]`` over the positions of a square map, row by row."""
    source, target = (round(size**0.5) for size in (value.shape[0], wanted[0]))
    forth = resampling_matrix(source, target, value)
    back = resampling_matrix(target, source, value)
    return torch.kron(forth, forth) @ value @ torch.kron(back, back)


def _shape(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "scalar"
