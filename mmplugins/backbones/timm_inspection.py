"""What a timm model is, found out before it is built.

timm's models differ in how they are put together, so nothing here goes by the names of their
parts. A copy without memory (on PyTorch's meta device) is asked instead: its ``feature_info`` tells
strides and channels, a trial run tells which image sizes it takes, and autograd tells which
parameters the feature map of each stage depends on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmplugins.utils import did_you_mean

STRIDES = (4, 8, 16, 32)
STEM = -1
PLAIN_STRIDE = 16
TRIAL_SIZE = (97, 131)
DIVISORS = (1, 32, 64, 128, 224, 256)
"""Divisors of image sides that are tried, for models with windows; the model's own size too."""


@dataclass(frozen=True)
class Inspection:
    """A timm model as a pyramid of stages 0 to 3, which are those of stride 4, 8, 16 and 32.

    Attributes:
        settings: Arguments of ``timm.create_model`` that build its feature extractor.
        plain: Whether all feature maps have the same stride; stages are then quarters of the
            blocks.
        taps: The stage that each feature map of the extractor ends, ``STEM`` for one before all
            stages.
        channels: Channels of each of these feature maps.
        modules: Path in the extractor of the module that puts out each of these feature maps.
        size_divisor: Divisor that the sides of an image must have; None if the model takes no other
            size than ``fixed_size``.
        fixed_size: The only height and width that it takes, None if it takes others.
        stage_of: For each parameter of the extractor that any feature map depends on, the first
            stage that does, or ``STEM``.
        layer_of: Layer of each parameter of the extractor for layer-wise learning-rate decay.
        last_layer: The layer of everything outside the extractor.
        own_names: For each tensor of the extractor, and of the whole timm model, its name in the
            extractor, or None.
        shapes: Shape of each tensor of the whole timm model, in the order of its modules.
    """

    settings: Mapping[str, Any]
    plain: bool
    taps: tuple[int, ...]
    channels: tuple[int, ...]
    modules: tuple[str, ...]
    size_divisor: int | None
    fixed_size: tuple[int, int] | None
    stage_of: Mapping[str, int]
    layer_of: Mapping[str, int]
    last_layer: int
    own_names: Mapping[str, str | None]
    shapes: Mapping[str, torch.Size]


def inspect_timm_model(
    model_name: str, out_indices: Sequence[int], settings: Mapping[str, Any]
) -> Inspection:
    """Inspect a timm model.

    Args:
        model_name: Name as timm has it, with or without the tag of its weights.
        out_indices: Stages that are wanted, ascending.
        settings: Arguments of ``timm.create_model``, ``in_chans`` among them, and an
            ``output_stride`` only if it is less than 32.

    Raises:
        ValueError: If timm has no such model or tag, the model does not take the settings, it
            lacks a wanted stride or the ``output_stride``, or takes no image size that was tried.
    """
    import timm  # here, because it takes seconds to import

    check_timm_name(model_name)
    with torch.device("meta"), torch.inference_mode(False), torch.enable_grad():
        # Stages are told by stride, so of the model as it is without another output_stride.
        own = {name: value for name, value in settings.items() if name != "output_stride"}
        try:
            whole = timm.create_model(model_name, **own)
        except TypeError as error:
            raise ValueError(
                f"timm model {model_name!r} does not take all of {sorted(own)}: {error}"
            ) from error
        taps = _choose_taps(model_name, whole.feature_info, out_indices)
        settings = _any_size(type(whole)) | dict(settings)
        settings |= dict(features_only=True, out_indices=list(taps))
        extractor = _create_extractor(model_name, settings, taps.values())
        own_size = getattr(whole, "default_cfg", {}).get("input_size", (3, 224, 224))[1:]
        fixed_size = as_pair(settings.get("img_size", tuple(own_size)))
        maps, size_divisor = _trial_run(model_name, extractor, settings["in_chans"], fixed_size)
        stage_of = _stages_by_dependence(extractor, maps, tuple(taps.values()))

    infos = [whole.feature_info[tap] for tap in taps]
    names = extractor.state_dict()
    own_names = dict(zip(names, names, strict=True))
    own_names |= {name: _find(name, names) for name in whole.state_dict()}
    layers = _timm_layers(whole, own_names)
    if STEM not in taps.values():
        for name in _stem(infos[0]["module"], stage_of, layers):
            stage_of[name] = STEM
    if layers:
        last_layer = max(layers.values())  # the classifier's, unless it has none of its own
        last_layer += last_layer in map(layers.get, stage_of)
    else:
        layers = {name: stage + 1 for name, stage in stage_of.items()}
        last_layer = len(STRIDES) + 1
    modules = dict(extractor.named_modules())
    return Inspection(
        settings=settings,
        plain=_is_plain(whole.feature_info),
        taps=tuple(taps.values()),
        channels=tuple(info["num_chs"] for info in infos),
        modules=tuple(_find(info["module"], modules) or info["module"] for info in infos),
        size_divisor=size_divisor,
        fixed_size=fixed_size if size_divisor is None else None,
        stage_of=stage_of,
        layer_of=layers,
        last_layer=last_layer,
        own_names=own_names,
        shapes={name: value.shape for name, value in whole.state_dict().items()},
    )


def _create_extractor(name: str, settings: Mapping[str, Any], stages: Iterable[int]) -> nn.Module:
    import timm

    coarsest = settings.get("output_stride", STRIDES[-1])
    try:
        extractor = timm.create_model(name, **settings).eval()
        found = extractor.feature_info.reduction()
    except (AssertionError, NotImplementedError, TypeError):
        if coarsest == STRIDES[-1]:
            raise
        found = None
    wanted = [min(STRIDES[stage], coarsest) for stage in stages if stage != STEM]
    if coarsest < STRIDES[-1] and (not found or list(found[-len(wanted) :]) != wanted):
        raise ValueError(
            f"timm model {name!r} has no output_stride={coarsest}: leave it out, or take a model "
            "that timm builds so, such as a ResNet, a RegNet or a ConvNeXt"
        )
    return extractor


def as_pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width from either or both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def check_timm_name(name: str) -> None:
    """Look the name of a timm model up, with or without the tag of its weights.

    Raises:
        ValueError: If timm has no such model, or no weights of that tag; the nearest are offered.
    """
    import timm

    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        hint = did_you_mean(arch, timm.list_models(), count=3) or " See timm.list_models()"
        raise ValueError(f"timm {timm.__version__} has no model {name!r}.{hint}")
    tagged = timm.list_models(f"{arch}.*", pretrained=True) if tag else []
    if tag and name not in tagged:
        raise ValueError(
            f"timm {timm.__version__} has no weights {name!r}: expected one of "
            f"{', '.join([arch, *tagged])}"
        )


def _any_size(model: type) -> dict[str, bool]:
    """Arguments that free a timm model from one image size, as far as it has them."""
    known = inspect.signature(model).parameters
    return {name: True for name in ("dynamic_img_size", "dynamic_img_pad") if name in known}


def _is_plain(feature_info: Sequence[dict]) -> bool:
    return len({info["reduction"] for info in feature_info}) == 1


def _choose_taps(
    name: str, feature_info: Sequence[dict], out_indices: Sequence[int]
) -> dict[int, int]:
    """Feature maps to take from a timm model, by timm's number: the stage of ours that each ends.

    Feature maps of less than stride 4 end the stem. Of a plain model, the feature map after each
    quarter is taken.
    """
    strides = [info["reduction"] for info in feature_info]
    if _is_plain(feature_info):
        if strides[0] != PLAIN_STRIDE:
            raise ValueError(
                f"timm model {name!r} has feature maps of stride {strides[0]} only; its simple "
                f"feature pyramid needs stride {PLAIN_STRIDE}. A vision transformer can be built "
                f"with patch_size={PLAIN_STRIDE}; timm resamples its pretrained patch embedding"
            )
        return {max((i + 1) * len(strides) // 4, 1) - 1: i for i in range(4)}
    if missing := [STRIDES[i] for i in out_indices if STRIDES[i] not in strides]:
        have = tuple(i for i, stride in enumerate(STRIDES) if stride in strides)
        raise ValueError(
            f"timm model {name!r} lacks feature maps of stride {missing}: it has {strides}"
            + (f"; use out_indices among {have}" if have else "")
        )
    stage_of = {stride: STEM for stride in strides if stride < STRIDES[0]}
    stage_of |= {stride: i for i, stride in enumerate(STRIDES[: out_indices[-1] + 1])}
    tap_of = {  # the last one of each stride, where it has a module (TResNet's first has none)
        stride: tap for tap, stride in enumerate(strides) if feature_info[tap]["module"]
    }
    return {tap: stage_of[stride] for stride, tap in tap_of.items() if stride in stage_of}


def _trial_run(
    name: str, extractor: nn.Module, channels: int, own_size: tuple[int, int]
) -> tuple[list[Tensor], int | None]:
    """Run a copy without memory on odd sides, on multiples, or on the size that it was built for.

    Returns:
        Its feature maps, and the divisor that sides must have, or None if it takes one size only.
    """
    sizes: dict[int | None, tuple[int, int]] = {}
    for divisor in sorted({*DIVISORS, max(own_size)}):
        height, width = (-(-side // divisor) * divisor for side in TRIAL_SIZE)
        # Another size than its own, and no square, which would say little.
        sizes[divisor] = height, width + divisor * (height == width)
    sizes[None] = own_size
    for needed, size in sizes.items():
        try:
            maps = extractor(torch.zeros(1, channels, *size))
        except Exception as error:  # whatever a timm model says to a size that it does not take
            refusal = error
        else:
            return maps, needed
    if "meta tensors" in str(refusal):
        raise ValueError(
            f"timm model {name!r} reads values of its input to know the shapes of its feature maps "
            "(Tensor.item() in timm): it cannot be tried without memory, and is not taken"
        ) from refusal
    raise ValueError(
        f"timm model {name!r} takes none of the image sizes {list(sizes.values())} (last answer: "
        f"{refusal}). If it has an argument img_size, pass the (H, W) to which your pipeline pads"
    ) from refusal


def _stages_by_dependence(
    extractor: nn.Module, maps: Sequence[Tensor], taps: Sequence[int]
) -> dict[str, int]:
    """For each parameter that any feature map depends on, the first stage whose feature map does.

    The graph that autograd keeps of each feature map is followed back to the parameters.
    """
    name_of = {id(parameter): name for name, parameter in extractor.named_parameters()}
    stage_of, seen = {}, {None}
    for x, stage in zip(maps, taps, strict=True):
        ahead = [x.grad_fn]
        while ahead:
            step = ahead.pop()
            if step in seen:
                continue
            seen.add(step)
            ahead += [source for source, _ in step.next_functions]
            name = name_of.get(id(getattr(step, "variable", None)))
            if name is not None:
                stage_of[name] = stage
    return stage_of


def _aliases(name: str) -> tuple[str, ...]:
    """What timm's feature extractors make of a name: flattened by one level, or below a wrapper."""
    return name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}"


def _find(name: str, names: Mapping[str, Any]) -> str | None:
    return next((alias for alias in _aliases(name) if alias in names), None)


def _timm_layers(whole: nn.Module, own_names: Mapping[str, str | None]) -> dict[str, int]:
    """Layer of each parameter, built or not, by timm's grouping; nothing if it has none."""
    from timm.models import group_parameters

    if not hasattr(whole, "group_matcher"):
        return {}
    layers = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
    return {own_names[name] or name: layer for name, layer in layers.items()}


def _stem(first: str, stage_of: Mapping[str, int], layers: Mapping[str, int]) -> list[str]:
    """What the first stage needs before its blocks: timm's first layer, or all outside of blocks.

    Args:
        first: Module that puts out the first feature map.
        stage_of: Stage of each parameter.
        layers: Layer of each parameter by timm's grouping, if it has one.
    """
    needed = [name for name, stage in stage_of.items() if stage == min(stage_of.values())]
    if layers:
        return [name for name in needed if layers.get(name) == 0]
    blocks = first.rpartition(".")[0] or first
    inside = tuple(f"{alias}{end}" for alias in _aliases(blocks) for end in "._")
    return [name for name in needed if not name.startswith(inside)]
