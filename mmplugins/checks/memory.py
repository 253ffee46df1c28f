"""How much memory training will take, against how much there is."""

from __future__ import annotations

import os

import torch

from .inspection import Inspection

_PARTS = ("weights", "gradients", "states", "activations")


def check_memory(inspection: Inspection) -> str:
    """Estimate from what the training step measured.

    Weights, gradients and states of the optimiser are exact. Activations, what autograd keeps for
    the backward pass, are measured on the small batch and grow with pixels and pictures. What
    operators need for a moment comes on top, so the true peak is somewhat higher.
    """
    size = inspection.cfg.train_dataloader.get("batch_size", 1)
    parts = [inspection.measured[part] for part in _PARTS]
    need, there = sum(parts), device_memory()
    said = ", ".join(f"{name} {in_bytes(n)}" for name, n in zip(_PARTS, parts, strict=True))
    if need > there:
        inspection.warn(
            f"about {in_bytes(need)} for {size} pictures per process ({said}), but the device has "
            f"{in_bytes(there)}: lower batch_size, give the backbone with_cp=True, or add --amp",
            "train_dataloader.batch_size",
        )
    return f"about {in_bytes(need)} of {in_bytes(there)}: {said}"


def device_memory() -> int:
    """Bytes of the GPU, or of the machine where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def in_bytes(count: int) -> str:
    """``'1.25 GiB'``, or ``'37.0 MiB'`` below one."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
