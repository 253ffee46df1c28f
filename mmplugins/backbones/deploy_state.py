"""What a deployed model keeps of its trained form: enough to load files of either form.

The trained form stays behind as a skeleton without memory (meta tensors). A file in trained form is
loaded into a copy of it, folded there, and then fills the deployed model. The state dict of a
deployed model carries a mark, by which a model in trained form knows to refuse it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmplugins.utils import few

MARK = "deploy_form"
"""Name of the buffer that tells a deployed state dict; its value is the version of the form."""

VERSION = 2
"""Since version 2 a folded block has the names of the trained one; see :func:`renewed`."""


def become_deployed(module: nn.Module, fold: Callable[[nn.Module], None]) -> None:
    """Fold a module in place, so that it loads files of either form from then on.

    Args:
        module: Module in eval mode; one already deployed is left alone.
        fold: Importable function that folds a module of this kind in place.

    Raises:
        RuntimeError: In training mode, where the shorter form would be another model.
    """
    if module.training:
        raise RuntimeError(
            f"{type(module).__name__} to be deployed in training mode: folding is for inference; "
            "call eval() first"
        )
    if is_deployed(module):
        return
    trained = skeleton_of(module)
    # Weights that were made in inference mode can only be changed in inference mode, and the folded
    # ones must be of the same kind.
    with torch.inference_mode(any(p.is_inference() for p in module.parameters())), torch.no_grad():
        fold(module)
    module.register_buffer(MARK, torch.tensor(VERSION, dtype=torch.uint8))
    module._trained_form = (trained,)  # in a tuple, so that it is no submodule
    # Public, under another name, since torch 2.5.
    module._register_load_state_dict_pre_hook(partial(_fold_on_load, fold=fold), with_module=True)


def is_deployed(module: nn.Module) -> bool:
    """Whether the module was folded by :func:`become_deployed`."""
    return MARK in module._buffers


def form_that_loads(module: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """The form of a module whose names and shapes a state dict should have.

    That is the module itself, with one exception. Weights in trained form are folded while they
    load into a deployed module, so they have to fit its trained form, a skeleton without memory.
    """
    return module._trained_form[0] if is_deployed(module) and MARK not in state_dict else module


def skeleton_of(module: nn.Module) -> nn.Module:
    """Copy a module without its memory: parameters and buffers are on the meta device."""
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        empty = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = empty
    return copy.deepcopy(module, memo)


def refuse_deployed(keys: Container[str], prefix: str, name: str) -> None:
    """Raise ValueError if what stands below ``prefix`` is the deployed form of a model."""
    if prefix + MARK in keys:
        raise ValueError(
            f"Weights in deployed form for a {name} in trained form: folding cannot be undone; "
            "before loading, call eval() and switch_to_deploy() on the backbone, or "
            "mmplugins.deployment.reparameterize on the whole model"
        )


def _fold_on_load(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any, fold: Callable
) -> None:
    """Replace a trained form below ``prefix``, or an old deployed one, by today's deployed form."""
    own = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    if not own:
        return
    folded = renewed(own, module) if MARK in own else _folded(module, own, fold)
    for key in own:
        del state_dict[prefix + key]
    state_dict.update({prefix + key: value for key, value in folded.items()})


def _folded(module: nn.Module, own: dict[str, Tensor], fold: Callable) -> dict[str, Tensor]:
    """The deployed form of weights in trained form; keys that the module lacks stay as they are."""
    twin = copy.deepcopy(module._trained_form[0])
    missing, unexpected = twin.load_state_dict(
        {key: value.clone() for key, value in own.items()}, strict=False, assign=True
    )
    if missing:
        raise ValueError(
            f"Weights in trained form for a deployed {type(module).__name__} lack {len(missing)} "
            f"tensors ({few(missing, 3)}), and only a complete set can be folded; load "
            "them before switching to the deployed form"
        )
    become_deployed(twin.eval(), fold)
    folded = twin.state_dict()
    folded.update({key: own[key] for key in unexpected})
    return folded


_BLOCK = r"(stages\.\d+\.blocks\.\d+\.)"
_RENAMES = tuple(
    (re.compile(_BLOCK + old), r"\1" + new)
    for old, new in (
        (r"token_mixer\.(?:norm\.|gain$)", "norm1."),
        (r"mlp\.norm\.", "norm2."),
        (r"token_mixer\.(res|layer)_scale$", r"\2_scale1.scale"),
        (r"mlp\.(res|layer)_scale$", r"\2_scale2.scale"),
        (r"token_mixer\.fc([12])\.", r"token_mixer.pwconv\2."),
        (r"token_mixer\.middle\.0\.shift$", "token_mixer.act1.bias"),
        (r"token_mixer\.middle\.\d\.", "token_mixer.dwconv."),
        (r"(token_mixer|mlp)\.mixer\.", r"\2."),
        (r"before\.", "dwconv."),  # this and the next of ConvNeXt
        (r"fc([12])\.", r"mlp.fc\2."),
    )
)


def renewed(state_dict: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """Bring the state dict of a backbone deployed by version 0.1 to the names of this one.

    Its blocks were modules of their own, whose names are told in this function and nowhere else.

    Args:
        state_dict: Weights in deployed form, with its mark.
        module: The deployed module that they are for.

    Returns:
        A new dict, or ``state_dict`` itself if it is of this version.
    """
    if int(state_dict[MARK]) >= VERSION:
        return state_dict
    new = {}
    for key, value in state_dict.items():
        name = next((p.sub(to, key) for p, to in _RENAMES if p.match(key)), key)
        name = name + "weight" if key.endswith("token_mixer.gain") else name
        if re.search(r"token_mixer\.(qkv|proj)\.weight$", key):
            value = value.flatten(1)  # a pointwise convolution then
        new[name] = value
        if key.endswith("token_mixer.gain"):  # of pooling, which had no shift
            shift = name.removesuffix("weight") + "bias"
            if shift in module.state_dict():
                new[shift] = torch.zeros_like(value)
    for own in [key for key in new if key.endswith("token_mixer.fuse_own.weight")]:
        parts = (own, own.replace("fuse_own", "fuse_rows"), own.replace("fuse_own", "fuse_columns"))
        new[own.replace("fuse_own", "fuse")] = torch.cat([new.pop(part) for part in parts], 1)
    new[MARK] = torch.full_like(state_dict[MARK], VERSION)
    return new
