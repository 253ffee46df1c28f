"""One half of a block in training: a branch and the sum with its shortcut.

The formula is ``res_scale(shortcut) + drop_path(layer_scale(mixer(norm(x))))``. Word by word it
writes a map for each part and keeps most of them for the backward pass. A mixer that says so in
``absorbs`` takes neighbours in and saves those maps:

* ``"scale"``: ``mixer(x, scale=...)`` multiplies its result by the layer scale ``[C]``;
* ``"norm"``: ``mixer(x, norm=..., scale=...)`` also normalises its input (:class:`GroupNorm1`).

What remains is one sum with factors. All of it is exact algebra, for any mixer. The formula is
taken word by word where a graph is recorded, as compilers fuse it themselves, and where hooks wait
on the parts or the parts are of other types than a block builds.
"""

from __future__ import annotations

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from ..functional.calling import is_traced
from ..functional.residual import scaled_residual
from .layers import GroupNorm1, Scale, is_hooked

_IDENTITY = nn.Identity()


def add_branch(
    shortcut: Tensor,
    x: Tensor,
    norm: nn.Module,
    mixer: nn.Module,
    layer_scale: nn.Module,
    drop_path: nn.Module,
    res_scale: nn.Module | None = None,
) -> Tensor:
    """``res_scale(shortcut) + drop_path(layer_scale(mixer(norm(x))))``.

    Args:
        shortcut: Map ``[N, C, H, W]`` that the branch is added to.
        x: Map ``[N, C, H, W]`` at the start of the branch.
        norm: Norm before the mixer, or identity.
        mixer: Token mixer or MLP.
        layer_scale: :class:`Scale` on the branch, or identity.
        drop_path: ``DropPath``, or identity.
        res_scale: :class:`Scale` on the shortcut, or identity. Defaults to identity.
    """
    res_scale = res_scale or _IDENTITY
    if is_traced() or not _as_built(norm, mixer, layer_scale, drop_path, res_scale):
        return res_scale(shortcut) + drop_path(layer_scale(mixer(norm(x))))
    scale, absorbs = _factors(layer_scale), getattr(mixer, "absorbs", ())
    if "norm" in absorbs and type(norm) is GroupNorm1:
        mixed, scale = mixer(x, norm=norm, scale=scale), None
    elif "scale" in absorbs:
        mixed, scale = mixer(norm(x), scale=scale), None
    else:
        mixed = mixer(norm(x))
    return scaled_residual(shortcut, mixed, _factors(res_scale), scale, _keep(drop_path, mixed))


def _as_built(
    norm: nn.Module,
    mixer: nn.Module,
    layer_scale: nn.Module,
    drop_path: nn.Module,
    res_scale: nn.Module,
) -> bool:
    return (
        type(layer_scale) in (Scale, nn.Identity)
        and type(res_scale) in (Scale, nn.Identity)
        and type(drop_path) in (DropPath, nn.Identity)
        and not is_hooked(norm, mixer, layer_scale, drop_path, res_scale)
    )


def _factors(scale: nn.Module) -> Tensor | None:
    return scale.scale if isinstance(scale, Scale) else None


def _keep(drop_path: nn.Module, mixed: Tensor) -> Tensor | None:
    """By image 0, or 1 / (1 - drop probability); drawn as ``DropPath`` itself draws it."""
    if not (drop_path.training and isinstance(drop_path, DropPath)):
        return None
    dtype = torch.promote_types(mixed.dtype, torch.float32)
    return drop_path(mixed.new_ones(len(mixed), 1, 1, 1, dtype=dtype))
