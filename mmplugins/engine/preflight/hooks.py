"""Hooks: whether they can be built."""

from __future__ import annotations

from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS, MODELS
from torch import nn

from mmplugins.backbones.suggestions import did_you_mean

from .inspection import Inspection, in_words, listed

_DEFAULT = (
    *("timer", "logger", "param_scheduler", "checkpoint", "exact_resume", "load_report"),
    *("sampler_seed", "progress", "results", "visualization"),
)
"""Hooks of the recipes, by the names that change their arguments."""


def check_hooks(inspection: Inspection) -> str:
    """Build every hook; those that draw need the runner's visualizer and are only counted."""
    cfg = inspection.cfg
    entries = [
        (f"default_hooks.{name}", hook) for name, hook in cfg.get("default_hooks", {}).items()
    ]
    own = listed(cfg.get("custom_hooks"))
    entries += [(f"custom_hooks[{k}]", hook) for k, hook in enumerate(own)]
    for where, hook in entries:
        if not isinstance(hook, dict) or "Visualization" in str(hook.get("type")):
            continue
        if "type" not in hook:
            near = did_you_mean(where.rpartition(".")[2], _DEFAULT)
            inspection.fail(f"has no type: {dict(hook)}; give type='...'.{near}", where)
            continue
        try:
            built = HOOKS.build({key: value for key, value in hook.items() if key != "priority"})
            if isinstance(built, EMAHook):  # takes whatever the average takes, and builds it late
                MODELS.build(built.ema_cfg, default_args=dict(model=nn.Identity()))
        except Exception as error:  # hooks raise what they like
            inspection.fail(in_words(error), where)
    return f"{len(entries)} hooks"
