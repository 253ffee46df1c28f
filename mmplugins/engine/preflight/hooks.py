"""Hooks: whether they can be built."""

from __future__ import annotations

from mmengine.registry import HOOKS

from .inspection import Inspection, in_words, listed


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
        try:
            HOOKS.build({key: value for key, value in hook.items() if key != "priority"})
        except Exception as error:  # hooks raise what they like
            inspection.fail(in_words(error), where)
    return f"{len(entries)} hooks"
