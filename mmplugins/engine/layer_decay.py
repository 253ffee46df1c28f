"""Lower learning rates for earlier layers, for every backbone that tells how deep a parameter lies.

The rule is that of ConvNeXt's dense tasks (Z. Liu et al., CVPR 2022, arXiv 2201.03545, appendix
A.3), after BEiT's; what a layer is, the backbone says.
"""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

DEPTH_METHODS = {"layer_wise": "get_layer_depth", "stage_wise": "get_stage_depth"}
"""The method of a backbone that knows the depth of a parameter, by ``decay_type``."""

NOT_DECAYED = {"pos_embed", "cls_token", "mask_token"}
"""Parameters with more than one dimension that are spared from weight decay all the same."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimiser whose learning rate shrinks from the heads down to the stem.

    A parameter at depth ``d`` of ``N`` layers learns at ``lr * decay_rate ** (N - d - 1)``; neck,
    heads and output norms, the last layer, learn at ``lr``. Biases, all other parameters with one
    dimension, and position embeddings are not decayed. Frozen parameters are left out. The groups
    are written to the log once, as a table.

    In a config of mmdet or mmseg::

        optim_wrapper = dict(
            constructor="LayerDecayOptimWrapperConstructor",
            paramwise_cfg=dict(decay_rate=0.9, decay_type="stage_wise"),
            optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
        )

    Args:
        optim_wrapper_cfg: Config of the optimiser wrapper; its optimiser must have an ``lr``.
        paramwise_cfg: ``decay_rate``, above 0 and up to 1, and ``decay_type``: ``'layer_wise'``,
            the default, or ``'stage_wise'``. How many layers there are, the backbone says by
            ``get_layer_depth(param_name, prefix)`` or ``get_stage_depth(...)``, which return the
            depth of a parameter and the number of layers.

    Raises:
        ValueError: If a setting is missing, unknown or out of range; or, when it is called, if the
            backbone of the model has no such method.
    """

    def _validate_cfg(self) -> None:
        rate = self.paramwise_cfg.get("decay_rate")
        kind = self.paramwise_cfg.setdefault("decay_type", "layer_wise")
        unknown = sorted(self.paramwise_cfg.keys() - {"decay_rate", "decay_type"})
        if unknown:
            raise ValueError(
                f"paramwise_cfg has {', '.join(unknown)}: expected decay_rate and decay_type only; "
                "the number of layers comes from the backbone"
            )
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ValueError(
                f"paramwise_cfg decay_rate={rate!r}: expected a number above 0 and up to 1, such "
                "as 0.95 (layer_wise) or 0.9 (stage_wise)"
            )
        if kind not in DEPTH_METHODS:
            raise ValueError(
                f"paramwise_cfg decay_type={kind!r}: expected one of {', '.join(DEPTH_METHODS)}"
            )
        if self.base_lr is None:
            raise ValueError("optimizer without lr: layer decay scales lr, so give it one")

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Add all trainable parameters of ``module`` to ``params``, group by group.

        Each group has ``params``, ``lr``, ``weight_decay`` (if the optimiser has one), ``lr_scale``
        and ``group_name``.
        """
        depth_method = DEPTH_METHODS[self.paramwise_cfg["decay_type"]]
        backbones = find_backbones(module, depth_method)
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            prefix = next((p for p in backbones if name.startswith(p)), None)
            below = 0  # layers between this one and the heads
            if prefix is not None:
                depth, count = getattr(backbones[prefix], depth_method)(name, prefix)
                below = count - depth - 1
            decayed = parameter.ndim > 1 and not name.endswith(".bias")
            decayed = decayed and NOT_DECAYED.isdisjoint(name.split("."))
            group = groups.setdefault((-below, decayed), self._group(below, decayed))
            group["params"].append(parameter)
        ordered = [groups[key] for key in sorted(groups)]
        if is_main_process():
            title = f"Groups of {type(self).__name__}, {self.paramwise_cfg['decay_type']}:"
            print_log(f"{title}\n{groups_table(ordered)}", logger="current")
        params.extend(ordered)

    def _group(self, below: int, decayed: bool) -> dict[str, Any]:
        scale = self.paramwise_cfg["decay_rate"] ** below
        name = f"{below} below the heads, {'decay' if decayed else 'no decay'}"
        group = dict(params=[], lr=self.base_lr * scale, lr_scale=scale, group_name=name)
        if self.base_wd is not None:
            group["weight_decay"] = self.base_wd if decayed else 0.0
        return group


def find_backbones(model: nn.Module, depth_method: str) -> dict[str, nn.Module]:
    """The backbones inside of a model, by the prefix of their parameters.

    Args:
        model: A detector, a segmentor, or a model around one or several.
        depth_method: Method that each must have.

    Raises:
        ValueError: If a trained backbone has no such method, or there is no backbone at all.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if any(f"{name}.".startswith(prefix) for prefix in found):
            continue
        if hasattr(module, "get_layer_depth") and hasattr(module, depth_method):
            found[f"{name}." if name else ""] = module
            if not name:
                break
        elif name.rpartition(".")[2] == "backbone" and any(
            p.requires_grad for p in module.parameters()
        ):
            raise ValueError(
                f"{name} is a {type(module).__name__}, which has no {depth_method}(param_name, "
                "prefix), so nothing tells how deep its parameters lie: take a backbone of "
                "mmplugins (mmplugins.list_backbones(), 'timm/...'), give it this method, or "
                "remove constructor and paramwise_cfg from optim_wrapper"
            )
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no part called backbone and none with {depth_method}: "
            "remove constructor and paramwise_cfg from optim_wrapper"
        )
    return found


def groups_table(groups: list[dict[str, Any]]) -> str:
    """The groups as lines of text: name, factor on the rate, rate, decay, tensors, parameters."""
    rows = [("group", "lr scale", "lr", "weight decay", "tensors", "parameters")]
    for group in groups:
        rows.append(
            (
                group["group_name"],
                f"{group['lr_scale']:.4g}",
                f"{group['lr']:.4g}",
                f"{group.get('weight_decay', 'default')}",
                f"{len(group['params'])}",
                f"{sum(p.numel() for p in group['params']):,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
