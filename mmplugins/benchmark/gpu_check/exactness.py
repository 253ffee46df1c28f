"""How far float32 is from float64, forward and in the gradients, ours beside timm's."""

from __future__ import annotations

import copy

import timm
import torch
from torch import Tensor, nn

from mmplugins.backbones import build_backbone

from ..models import show_every_part

ZERO = 1e-12
"""Gradients below this share of the largest are rounding of float64."""


def compare(name: str, device: torch.device, size: tuple[int, int]) -> list[dict]:
    """Relative differences of a backbone's maps and gradients in float32 from float64 on a CPU.

    Returns:
        A row for ours and one for timm's: ``forward``, ``gradients`` (the largest difference of a
        parameter's gradient that is not zero, relative to its own largest value), ``parameter``
        (which that is), ``scale`` (the largest value of that gradient, relative to the largest of
        all) and ``of all`` (the largest difference relative to the largest gradient of all).
    """
    ours = show_every_part(build_backbone(name, out_norm=None)).eval()
    theirs = timm.create_model(name, features_only=True).eval()
    show_every_part(theirs)
    return [
        dict(backbone=name, of=of, **_difference(model, device, size))
        for of, model in (("ours", ours), ("timm", theirs))
    ]


def _difference(model: nn.Module, device: torch.device, size: tuple[int, int]) -> dict:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.double, generator=random)
    exact_maps, exact = _run(copy.deepcopy(model).double(), x)
    maps, found = _run(copy.deepcopy(model).float().to(device), x.float().to(device))
    forward = max(
        ((m - e).abs().max() / e.abs().max()).item() for m, e in zip(maps, exact_maps, strict=True)
    )
    largest = max(grad.abs().max().item() for grad in exact.values())
    errors = {key: (found[key] - grad).abs().max().item() for key, grad in exact.items()}
    scales = {key: grad.abs().max().item() for key, grad in exact.items()}
    # A gradient that float64 has at its own rounding is zero by algebra, and has no relative error:
    # a constant before `pooled - x`, for example.
    own = {k: errors[k] / scale for k, scale in scales.items() if scale > ZERO * largest}
    worst = max(own, key=own.__getitem__)
    return dict(
        forward=forward,
        gradients=own[worst],
        parameter=worst,
        scale=scales[worst] / largest,
        **{"of all": max(errors.values()) / largest},
    )


def _run(model: nn.Module, x: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    maps = model(x)
    sum(m.square().mean() for m in maps).backward()
    grads = {n: p.grad.double().cpu() for n, p in model.named_parameters() if p.grad is not None}
    return [m.detach().double().cpu() for m in maps], grads
