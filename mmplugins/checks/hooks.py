"""Hooks: whether they can be built."""

from __future__ import annotations

from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Priority, get_priority
from torch import nn

from mmplugins.engine.hooks.compiling import CompileBackboneHook

from .inspection import Inspection, in_words, listed


def check_hooks(inspection: Inspection) -> str:
    """Build every hook; those that draw need the runner's visualizer and are only counted."""
    cfg = inspection.cfg
    entries = [
        (f"default_hooks.{name}", hook) for name, hook in (cfg.get("default_hooks") or {}).items()
    ]
    own = listed(cfg.get("custom_hooks"))
    entries += [(f"custom_hooks[{k}]", hook) for k, hook in enumerate(own)]
    for where, hook in entries:
        if not isinstance(hook, dict) or "Visualization" in str(hook.get("type")):
            continue
        try:
            get_priority(hook.get("priority", "NORMAL"))
        except (KeyError, TypeError, ValueError):
            inspection.fail(
                f"is {hook['priority']!r}: expected {', '.join(Priority.__members__)}, or a number "
                "from 0, the first, to 100",
                f"{where}.priority",
            )
            continue
        try:
            built = HOOKS.build({key: value for key, value in hook.items() if key != "priority"})
            if isinstance(built, EMAHook):  # takes whatever the average takes, and builds it late
                MODELS.build(built.ema_cfg, default_args=dict(model=nn.Identity()))
        except Exception as error:  # hooks raise what they like
            inspection.fail(in_words(error), where)
            continue
        if not isinstance(built, Hook):
            inspection.fail(f"is a {type(built).__name__}: expected a hook", f"{where}.type")
        backbone = inspection.trained[1].get("backbone") or {}
        if isinstance(built, CompileBackboneHook) and backbone.get("with_cp"):
            inspection.fail(
                "CompileBackboneHook and a backbone with_cp=True exclude each other: set "
                "with_cp=False, or remove the hook",
                where,
            )
    return f"{len(entries)} hooks"
