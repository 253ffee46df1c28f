"""Exact folding of a whole model: backbone, and batch norms into the convolutions before them."""

from __future__ import annotations

from mmengine.model import revert_sync_batchnorm
from torch import nn

from ..backbones.deploy_state import become_deployed
from ..backbones.folding import fold_batch_norms
from ..backbones.pyramid import PyramidBackbone, fold_children


def reparameterize(model: nn.Module) -> nn.Module:
    """Bring a detector, segmentor or any other model to its deployed form, in place.

    Backbones of this package are folded as :mod:`mmplugins.backbones.folding` says. Everywhere else
    (ResNet, necks, heads) batch norms go into the convolutions before them. Outputs stay the same
    up to rounding.

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
    fold_children(model)
