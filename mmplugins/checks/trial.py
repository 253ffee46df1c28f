"""One training step on real pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, NoReturn

import torch
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from mmplugins.utils import did_you_mean, few, listed, type_name

from .batches import Trial, load_trial, smaller, tensors
from .explain import in_words, walk
from .inspection import Inspection, Stopped
from .learning import check_saving, length, schedulers
from .samples import annotated, check_samples

BATCH = 2
"""Pictures of the trial batch; batch norm over a single position needs two."""


def check_step(inspection: Inspection) -> str:
    """Losses are finite, every trainable parameter gets a gradient, one step of the optimiser."""
    trial = load_trial(inspection, "train")
    check_samples(inspection, trial)
    model, cfg = inspection.model, inspection.cfg
    pictures = round(len(trial.dataset) / inspection.share)
    steps = _check_lengths(inspection, pictures)
    count = min(BATCH, cfg.train_dataloader.get("batch_size", 1))
    batch = trial.batch(count)
    _say_where_training_stands(cfg)
    inspection.attempt(partial(_start_afresh, model), "model", cfg.model)
    if "model" in inspection.broken:
        return ""
    _fit_preprocessor(inspection, trial.factor)
    model.to(get_device()).train()
    wrapper = build_optim_wrapper(model, deepcopy(cfg.optim_wrapper))
    _check_custom_keys(inspection, model)
    data = _prepared(inspection, batch, trial.samples[0])
    try:
        with _precision(wrapper, model), _counting(model) as saved:
            losses = model._run_forward(data, mode="loss")
        total, logged = model.parse_losses(losses)
    except Exception as error:  # anything in the model, on a batch the data set made
        if count == 1 and _meets_one_position(error):
            _stop_single(inspection, "a batch", error)
        inspection.stop(
            f"the loss of {count} pictures failed with {in_words(error)}"
            f"{_why(inspection, trial.samples)}{without_cfg(inspection, 'train_cfg')}",
            "model",
        )
    if not isinstance(total, Tensor) or not total.requires_grad:
        inspection.stop(
            "no loss is computed from a trainable parameter: give each head a loss, "
            "loss_decode=dict(type=...)",
            "model",
        )
    wrong = [f"{n} = {float(v)}" for n, v in logged.items() if not torch.isfinite(v).all()]
    if wrong:
        inspection.stop(
            f"{few(wrong)}: expected finite losses; check loss weights, normalisation and label "
            "values",
            "model",
        )
    total.backward()
    _check_clipping(inspection, wrapper)
    _check_gradients(inspection, model)
    _check_finite(inspection, model, wrapper)
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in _learnt(model, True))
    # A loss scaler of mixed precision would skip its first steps; plain torch always steps.
    for optimizer in _optimizers(wrapper):
        optimizer.step()
    spoilt = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
    if spoilt:
        inspection.fail(f"one step made {few(spoilt, 3)} infinite: lower lr", "optim_wrapper")
    if steps and length(cfg)[1] == "epochs":
        saving = (cfg.get("default_hooks") or {}).get("checkpoint")
        if saving and not saving.get("by_epoch", True):
            check_saving(inspection, saving, steps, "iterations")
        _check_ends(inspection, steps)
    _check_last_batch(inspection, data, pictures)
    inputs = next(tensors(data["inputs"]))
    _measure(inspection, trial, inputs, saved, wrapper, gradients)
    shown = ", ".join(f"{name} {float(v):.3f}" for name, v in logged.items())
    size = "x".join(map(str, inputs.shape[-2:]))
    return f"{count} pictures as {size}: {shown}; every trainable parameter has a gradient"


def _say_where_training_stands(cfg: Mapping) -> None:
    """Some models ask the message hub, as the runner's hooks tell it."""
    total, unit = length(cfg)
    hub = MessageHub.get_current_instance()
    hub.update_info_dict({"iter": 0, "epoch": 0, f"max_{unit}": total})


@contextmanager
def _precision(wrapper: Any, model: nn.Module) -> Iterator[None]:
    """The context of the loss; several optimisers have one for a model that steps them itself."""
    own = getattr(type(model), "train_step", None) is not BaseModel.train_step
    with ExitStack() as contexts:
        for inner in _wrappers(wrapper) if own else [wrapper]:
            contexts.enter_context(inner.optim_context(model))
        yield


def _check_clipping(inspection: Inspection, wrapper: Any) -> None:
    """Gradients are clipped by arguments that torch takes."""
    for inner in _wrappers(wrapper):
        if getattr(inner, "clip_grad_kwargs", None):
            where, given = "optim_wrapper.clip_grad", inspection.cfg.optim_wrapper.get("clip_grad")
            inspection.attempt(inner._clip_grad, where, given, (), inner.clip_func)
    if "optim_wrapper" in inspection.broken:
        raise Stopped


def without_cfg(inspection: Inspection, name: str) -> str:
    """A hint for models of mmdet that have no ``train_cfg`` or ``test_cfg``."""
    path, model = inspection.trained
    if inspection.scope != "mmdet" or model.get(name) is not None:
        return ""
    return f"; {path}.{name} is absent: give that of a recipe for {model.get('type')}"


def _why(inspection: Inspection, samples: Sequence) -> str:
    """What samples lack that models learn from; asked when a loss has failed."""
    step = "to LoadAnnotations of the train pipeline"
    found = annotated(samples)
    if inspection.scope == "mmdet" and "bboxes" not in found:
        return f"; no sample has boxes: add with_bbox=True {step}"
    heads = [w for w, v in walk(inspection.cfg.model, "model") if v and w.endswith("mask_head")]
    if inspection.scope == "mmdet" and "masks" not in found and heads:
        return f"; no sample has masks, which {heads[0]} learns: add with_mask=True {step}"
    return "; the model and what the train pipeline packs do not fit each other"


def _prepared(inspection: Inspection, batch: Any, sample: Mapping) -> Any:
    """The batch as the model takes it."""
    path = f"{inspection.trained[0]}.data_preprocessor"
    shown = [t.shape for t in tensors(sample["inputs"])]
    channels = shown[0][0] if shown else 0
    own = inspection.trained[1].get("data_preprocessor")
    prep = inspection.cfg.get("data_preprocessor") or own or {}
    means = listed(prep.get("mean"))
    try:
        data = inspection.model.data_preprocessor(batch, training=True)
    except Exception as error:  # preprocessors may raise anything
        if len(means) > 1 and len(means) != channels:
            turned = ", and bgr_to_rgb=False" if channels == 1 and prep.get("bgr_to_rgb") else ""
            inspection.stop(
                f"has {len(means)} values, {means}, but pictures have {channels} channels: give "
                f"one mean and std per channel{turned}, or load them with color_type='color'",
                f"{path}.mean",
            )
        absent = "" if prep else "is absent, and "
        inspection.stop(
            f"{absent}making a batch failed with {in_words(error)}; give size=(height, width) of "
            "the training pictures, or size_divisor=32, and means of their channels",
            path,
        )
    if isinstance(data.get("inputs"), list):
        kind = "SegDataPreProcessor" if inspection.scope == "mmseg" else "DetDataPreprocessor"
        inspection.stop(
            f"makes no batch of the pictures: give dict(type={kind!r}, mean=..., std=..., "
            "bgr_to_rgb=True)",
            path,
        )
    return data


def _check_last_batch(inspection: Inspection, data: Mapping, pictures: int) -> None:
    """Batch norm needs two values per channel: a last batch of one picture may have one."""
    loader, model = inspection.cfg.train_dataloader, inspection.model
    size = loader.get("batch_size", 1)
    by_epoch = length(inspection.cfg)[1] == "epochs"
    endless = "Infinite" in str((loader.get("sampler") or {}).get("type"))
    # Samplers fill up the last round, so that every process has as many pictures.
    left = math.ceil(pictures / inspection.processes) % size
    if size == 1 or left != 1 or loader.get("drop_last") or (endless and not by_epoch):
        return  # of one picture, the trial was
    try:
        with torch.no_grad():
            model._run_forward({k: _first(v) for k, v in data.items()}, mode="loss")
    except Exception as error:  # what else a batch of one brings out is no fault of the config's
        if _meets_one_position(error):
            _stop_single(inspection, f"the last batch of {pictures} pictures", error)


def _meets_one_position(error: Exception) -> bool:
    return isinstance(error, ValueError) and "more than 1 value per channel" in str(error)


def _stop_single(inspection: Inspection, what: str, error: Exception) -> NoReturn:
    other = "" if what == "a batch" else ", another one, or drop_last=True"
    inspection.stop(
        f"{what} is of one picture, in which a batch norm meets a single position "
        f"({in_words(error)}): give a batch_size of 2 or more{other}",
        "train_dataloader.batch_size",
    )


def _first(value: Any) -> Any:
    return value[:1] if isinstance(value, Tensor | list | tuple) else value


def _check_lengths(inspection: Inspection, pictures: int) -> int:
    """Number of steps of the training, 0 if unknown; reports an epoch without any."""
    loader = inspection.cfg.train_dataloader
    size = loader.get("batch_size", 1)
    each = pictures / inspection.processes
    steps = math.floor(each / size) if loader.get("drop_last") else math.ceil(each / size)
    if not steps:
        inspection.fail(
            f"drop_last=True leaves no batch of {size} from {pictures} pictures on "
            f"{inspection.processes} processes: give a smaller batch_size, or drop_last=False",
            "train_dataloader",
        )
    total, unit = length(inspection.cfg)
    steps = min(steps, loader.get("num_batch_per_epoch") or steps)
    inspection.measured["epoch"] = max(1, steps)
    return (total or 0) * (1 if unit == "iters" else steps)


def _start_afresh(model: nn.Module) -> None:
    """Initialise as training will, but for pretrained weights, which have their own check."""
    for module in model.modules():
        kept = [
            init
            for init in listed(getattr(module, "init_cfg", None))
            if "Pretrained" not in type_name(init)
        ]
        if hasattr(module, "init_cfg"):
            module.init_cfg = kept or None
    model.init_weights()


def _fit_preprocessor(inspection: Inspection, factor: float) -> None:
    """Let the preprocessor pad to the trial's sizes."""
    size = getattr(inspection.model.data_preprocessor, "size", None)
    if factor < 1 and size is not None:
        inspection.model.data_preprocessor.size = smaller(dict(size=tuple(size)), factor)["size"]


def _check_custom_keys(inspection: Inspection, model: nn.Module) -> None:
    keys = (inspection.cfg.optim_wrapper.get("paramwise_cfg") or {}).get("custom_keys") or {}
    names = [name for name, _ in model.named_parameters()]
    for key in keys:
        if not any(key in name for name in names):
            parts = sorted({part for name in names for part in name.split(".") if part.isalpha()})
            inspection.warn(
                f"{key!r} is in no parameter's name, so it has no effect: write a part of one, "
                f"such as {few(parts, 8)}.{did_you_mean(key, parts)}",
                "optim_wrapper.paramwise_cfg.custom_keys",
            )


def _learnt(model: nn.Module, reached: bool) -> Iterator[nn.Parameter]:
    return (p for p in model.parameters() if p.requires_grad and (p.grad is not None) is reached)


def _check_gradients(inspection: Inspection, model: nn.Module) -> None:
    unreached = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if not unreached:
        return
    text = f"{len(unreached)} trainable parameters get no gradient: {few(unreached, 4)}"
    remedy = "leave out what is not used (out_indices, heads)"
    wrapped = inspection.cfg.get("model_wrapper_cfg") or inspection.cfg
    if wrapped.get("find_unused_parameters"):
        inspection.warn(f"{text}: {remedy}", "model")
    elif inspection.processes > 1:
        inspection.fail(
            f"{text}; distributed training stops at this: {remedy}, or set "
            "find_unused_parameters=True",
            "model",
        )
    else:
        inspection.warn(f"{text}; distributed training would stop at this: {remedy}", "model")


def _check_finite(inspection: Inspection, model: nn.Module, wrapper: Any) -> None:
    """Gradients are numbers; those of mixed precision need not be, in a step that is skipped."""
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    spoilt = [name for name, gradient in named if not torch.isfinite(gradient).all()]
    if not spoilt:
        return
    text = f"the gradient of {few(spoilt, 3)} is not finite, though the losses are"
    if not any(isinstance(inner, AmpOptimWrapper) for inner in _wrappers(wrapper)):
        inspection.stop(
            f"{text}: expected finite gradients where losses are finite; look for square roots, "
            "logarithms and divisions at 0",
            "model",
        )
    inspection.warn(
        f"{text}: mixed precision skips such a step on a GPU, and takes it on a CPU; write "
        "OptimWrapper, or dtype='bfloat16' on a GPU, if it does not learn",
        "optim_wrapper",
    )
    for _, gradient in named:
        gradient.nan_to_num_(0.0, 0.0, 0.0)


def _wrappers(wrapper: Any) -> list[Any]:
    return [wrapper] if hasattr(wrapper, "optimizer") else list(wrapper.values())


def _optimizers(wrapper: Any) -> list[torch.optim.Optimizer]:
    return [inner.optimizer for inner in _wrappers(wrapper)]


def _check_ends(inspection: Inspection, steps: int) -> None:
    """Schedules in iterations against a training in epochs."""
    for where, scheduler in schedulers(inspection.cfg):
        end = scheduler.get("end")
        if not scheduler.get("by_epoch", True) and end and end > steps:
            inspection.warn(
                f"{type_name(scheduler)} ends at iteration {end}, but training has only {steps} "
                f"({inspection.measured['epoch']} per epoch): give a smaller end",
                where,
            )


@contextmanager
def _counting(model: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes of what is saved for the backward pass, by storage; parameters do not count."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if type(tensor) is not Tensor and not isinstance(tensor, nn.Parameter):
            return tensor
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def _measure(
    inspection: Inspection,
    trial: Trial,
    inputs: Tensor,
    saved: Mapping[int, int],
    wrapper: Any,
    gradients: int,
) -> None:
    states = [
        value
        for optimizer in _optimizers(wrapper)
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    held = [*inspection.model.parameters(), *inspection.model.buffers()]
    size = inspection.cfg.train_dataloader.get("batch_size", 1)
    grown = size * trial.pixels / (len(inputs) * math.prod(inputs.shape[-2:]))
    inspection.measured.update(
        weights=sum(t.numel() * t.element_size() for t in held),
        gradients=gradients,
        states=sum(t.numel() * t.element_size() for t in states),
        activations=round(sum(saved.values()) * max(grown, size / len(inputs))),
    )
