"""Exact folding of a whole model: backbone, and batch norms into the convolutions before them."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import revert_sync_batchnorm
from torch import nn

from ..backbones.batch_norm_folding import fold_batch_norms
from ..backbones.deploy_form import fused_name
from ..backbones.deploy_state import become_deployed
from ..backbones.fused_conv import FusedConv2d
from ..backbones.pyramid import PyramidBackbone, fold_children


def reparameterize(model: nn.Module) -> nn.Module:
    """Bring a detector, segmentor or any other model to its deploy form, in place.

    Backbones of this package take the form of :mod:`mmplugins.backbones.deploy_form`. Everywhere
    else (ResNet, necks, heads) batch norms go into the convolutions before them, and convolutions
    take over the activation that a ``ConvModule`` puts after them. Outputs stay the same up to
    rounding.

    State dicts of the deployed model load into it again; those of the trained form load too, and
    are folded meanwhile. Calling it again changes nothing.

    Args:
        model: Model in eval mode.

    Returns:
        ``model``.

    Raises:
        RuntimeError: In training mode, where the shorter form would be another model.
    """
    # Inference needs no other process, and a process group in a module cannot be copied.
    become_deployed(revert_sync_batchnorm(model), _fold)
    return model


def _fold(model: nn.Module) -> None:
    backbones = [module for module in model.modules() if isinstance(module, PyramidBackbone)]
    for backbone in backbones:
        backbone.switch_to_deploy()
    fold_batch_norms(model, but=backbones)
    for module in model.modules():
        if isinstance(module, ConvModule):
            _fuse_activation(module)
    fold_children(model)


def _fuse_activation(module: ConvModule) -> None:
    """Let the convolution of a ConvModule take over the activation after it."""
    if not module.with_activation or tuple(module.order) != ("conv", "norm", "act"):
        return
    normed = module.with_norm and not isinstance(module.norm, nn.Identity)
    act = fused_name(module.activate)
    if act is not None and not normed and FusedConv2d.fits(module.conv):
        module.conv = FusedConv2d(module.conv, act)
        module.with_activation = False
