"""Backbones that cost little: small ones, and published ones without memory."""

import torch
import written_layouts as written
from mmengine.registry import MODELS

from mmplugins.backbones import build_backbone

SMALL = dict(depths=written.DEPTHS, dims=written.DIMS)


def small(family, **settings):
    """A small backbone of a family."""
    return MODELS.build(dict(type=family, arch=SMALL, **settings))


def meta(name, **settings):
    """A published backbone on the meta device."""
    with torch.device("meta"):
        return build_backbone(name, **settings)


def weights_of(name):
    """Any numbers under the names and in the shapes of a published backbone."""
    return {
        key: torch.full(value.shape, 0.5)
        for key, value in meta(name).state_dict().items()
        if not key.startswith("out_norms.")
    }
