"""Where the time of a model goes: stage by stage in a backbone, part by part in a whole model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mmplugins.backbones.pyramid import PyramidBackbone
from mmplugins.backbones.timm_backbone import TimmBackbone

from .stopwatch import Stopwatch
from .subjects import Subject


def stage_ends(subject: Subject) -> tuple[list[tuple[nn.Module, str]], str]:
    """Modules whose end is the end of a stage, with its name; and the name of what comes after.

    Raises:
        ValueError: If the row is compiled, or its model has no stages that one could tell.
    """
    if subject.compiled:
        raise ValueError("compiled: stages are no longer apart; time the eager row")
    model = subject.model
    if subject.row.whole:
        parts = [(name, getattr(model, name, None)) for name in ("backbone", "neck")]
        return [(module, name) for name, module in parts if isinstance(module, nn.Module)], "head"
    if isinstance(model, TimmBackbone):
        names = [f"stage {i}" for i in model.out_indices]
        try:
            modules = [model.get_submodule(info["module"]) for info in model.feature_info]
        except AttributeError as error:
            raise ValueError(f"{subject.row.name}: its stages are not modules") from error
        names[0] = f"up to {names[0]}"
        return list(zip(modules, names, strict=True)), "rest"
    if isinstance(model, PyramidBackbone):
        stages = [(stage, f"stage {i}") for i, stage in enumerate(model.stages)]
        return [(model.stem, "stem"), *stages], "output norms"
    raise ValueError(f"{subject.row.name}: its stages are not known")


@contextmanager
def marked(ends: list[tuple[nn.Module, str]], watch: Stopwatch) -> Iterator[None]:
    """Mark the end of each of these modules on the stopwatch, while inside."""
    handles = [
        module.register_forward_hook(lambda *_, name=name: watch.lap(name)) for module, name in ends
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_marked(
    subject: Subject,
    images: Tensor,
    ends: tuple[list[tuple[nn.Module, str]], str],
    watch: Stopwatch,
) -> None:
    """One inference pass with a lap for each stage."""
    modules, rest = ends
    with marked(modules, watch):
        subject.infer(images)
    watch.lap(rest)
