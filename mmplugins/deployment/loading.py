"""Files in deployed form load wherever mmengine loads: the file says so, the model follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..backbones.deploy_state import MARK, is_deployed
from ..backbones.pyramid import PyramidBackbone
from ..compat.patches.loading import BEFORE_LOADING
from ..engine.unwrapping import bare_model
from .reparameterize import reparameterize


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
