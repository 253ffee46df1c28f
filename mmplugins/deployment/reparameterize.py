"""Exact folding of a whole model: backbone, and batch norms into the convolutions before them.

Files in deployed form load wherever mmengine loads: the file says so, and the model follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import revert_sync_batchnorm
from torch import nn

from ..backbones.deploy_state import MARK, become_deployed, is_deployed
from ..backbones.folding import fold_batch_norms
from ..backbones.pyramid import PyramidBackbone, fold_children
from ..compat.patches.loading import BEFORE_LOADING
from ..engine.unwrapping import bare_model


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


def follow_the_file(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Fold a model, or a backbone in it, in place if the state dict holds the deployed form.

    What was folded is in eval mode then, and refuses to be run in training mode.
    """
    keys = {key.removeprefix("module.") for key in state_dict if key.endswith(MARK)}
    model = bare_model(model)
    for name, part in model.named_modules() if keys else ():
        if f"{name}.{MARK}".lstrip(".") not in keys or is_deployed(part):
            continue
        if not name:
            reparameterize(part.eval())
        elif isinstance(part, PyramidBackbone):
            part.eval().switch_to_deploy()
        else:
            continue
        part.register_forward_pre_hook(_refuse_training)
        if not name:
            return  # with all backbones in it


def _refuse_training(part: nn.Module, args: tuple) -> None:
    if part.training:
        raise RuntimeError(
            f"{type(part).__name__} in deployed form, as the loaded file is, in training mode: "
            "folding is for inference; train from the file in trained form"
        )


BEFORE_LOADING.append(follow_the_file)
