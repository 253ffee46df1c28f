"""One training step on real pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import Tensor, nn

from mmplugins.utils import did_you_mean, few

from .batches import Trial, has_objects, is_packed, smaller
from .inspection import Inspection, in_words, listed
from .learning import check_saving, length

BATCH = 2
"""Pictures of the trial batch; batch norm over a single position needs two."""


def check_step(inspection: Inspection) -> str:
    """Losses are finite, every trainable parameter gets a gradient, one step of the optimiser."""
    trial = load_trial(inspection, "train")
    if trial is None or not _check_samples(inspection, trial):
        return ""
    model, cfg = inspection.model, inspection.cfg
    steps = _check_lengths(inspection, round(len(trial.dataset) / inspection.share))
    count = min(BATCH, cfg.train_dataloader.get("batch_size", 1))
    batch = trial.batch(count)
    _start_afresh(model)
    _fit_preprocessor(inspection, trial.factor)
    model.to(get_device()).train()
    try:
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    except Exception as error:  # optimisers raise what they like
        inspection.fail(in_words(error), "optim_wrapper")
        return ""
    _check_custom_keys(inspection, model)
    try:
        with wrapper.optim_context(model), _counting(model) as saved:
            data = model.data_preprocessor(batch, training=True)
            losses = model._run_forward(data, mode="loss")
        total, logged = model.parse_losses(losses)
    except Exception as error:  # anything in the model, on a batch the data set made
        inspection.fail(
            f"the loss of {count} pictures failed with {in_words(error)}; the model and what the "
            f"train pipeline packs do not fit each other{without_cfg(inspection, 'train_cfg')}",
            "model",
        )
        return ""
    wrong = {name: float(v) for name, v in logged.items() if not torch.isfinite(v).all()}
    if wrong:
        inspection.fail(
            f"{few([f'{name} = {value}' for name, value in wrong.items()])}: expected finite "
            "losses; check loss weights, normalisation and label values",
            "model",
        )
        return ""
    total.backward()
    _check_gradients(inspection, model)
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in _learnt(model, True))
    # A loss scaler of mixed precision would skip its first steps; plain torch always steps.
    for optimizer in _optimizers(wrapper):
        optimizer.step()
    spoilt = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
    if spoilt:
        inspection.fail(f"one step made {few(spoilt, 3)} infinite: lower lr", "optim_wrapper")
    saving = (cfg.get("default_hooks") or {}).get("checkpoint")
    if saving and not saving.get("by_epoch", True) and length(cfg)[1] == "epochs":
        check_saving(inspection, saving, steps, "iterations")
    if "param_scheduler" not in inspection.broken:
        _check_schedulers(inspection, wrapper, steps)
    _measure(inspection, trial, data["inputs"], saved, wrapper, gradients)
    shown = ", ".join(f"{name} {float(v):.3f}" for name, v in logged.items())
    size = "x".join(map(str, data["inputs"].shape[-2:]))
    return f"{count} pictures as {size}: {shown}; every trainable parameter has a gradient"


def load_trial(inspection: Inspection, split: str) -> Trial | None:
    where = f"{split}_dataloader.dataset"
    try:
        trial = Trial(inspection, split)
    except Exception as error:  # data sets and transforms raise what they like
        inspection.fail(
            f"loading pictures failed with {in_words(error)}; correct the pipeline step or the "
            "data it names",
            where,
        )
        return None
    if len(trial.dataset) == 0:
        inspection.fail(
            "has no pictures, or filter_cfg leaves none: expected at least 1, check ann_file, "
            "metainfo and filter_cfg",
            where,
        )
        return None
    return trial


def without_cfg(inspection: Inspection, name: str) -> str:
    """A hint for models of mmdet that have no ``train_cfg`` or ``test_cfg``."""
    path, model = inspection.trained
    if inspection.scope != "mmdet" or model.get(name) is not None:
        return ""
    return f"; {path}.{name} is absent: give that of a recipe for {model.get('type')}"


def _check_samples(inspection: Inspection, trial: Trial) -> bool:
    where = "train_dataloader.dataset.pipeline"
    bare = next((s for s in trial.samples if not is_packed(s)), None)
    if bare is not None:
        found = few(list(bare)) if isinstance(bare, Mapping) else type(bare).__name__
        pack = "PackSegInputs" if inspection.scope == "mmseg" else "PackDetInputs"
        inspection.fail(
            f"puts out {found}: expected inputs and data_samples, end it with {pack}", where
        )
        return False
    if not any(map(has_objects, trial.samples)):
        inspection.warn(
            f"none of {len(trial.samples)} pictures has an object after the pipeline: check crops, "
            "filters and sizes",
            where,
        )
    head = getattr(inspection.model, "decode_head", None)
    if head is None or isinstance(head, nn.ModuleList):
        return True
    maps = [s["data_samples"].gt_sem_seg.data for s in trial.samples]
    values = sorted({v for m in maps for v in m.unique().tolist()})
    known = set(range(head.num_classes))
    wrong = [v for v in values if v not in known and v != head.ignore_index]
    if wrong:
        inspection.fail(
            f"label maps hold {few(wrong)} after the pipeline, but the head knows 0.."
            f"{head.num_classes - 1} and ignore_index={head.ignore_index}: give the head and the "
            "data set the same ignore_index (255), and reduce_zero_label as the maps need it",
            "model.decode_head.ignore_index",
        )
        return False
    if not known.intersection(values):
        inspection.warn(
            f"no labelled pixel in {len(maps)} maps, only {few(values)}: check reduce_zero_label",
            "train_dataloader.dataset",
        )
    return True


def _check_lengths(inspection: Inspection, pictures: int) -> int:
    """Number of steps of the training; reports an epoch without any."""
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
    inspection.measured["epoch"] = max(1, steps)
    return total if unit == "iters" else total * steps


def _start_afresh(model: nn.Module) -> None:
    """Initialise as training will, but for pretrained weights, which have their own check."""
    for module in model.modules():
        kept = [
            init
            for init in listed(getattr(module, "init_cfg", None))
            if not str(init.get("type")).endswith("Pretrained")
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
    if inspection.cfg.get("find_unused_parameters"):
        inspection.warn(f"{text}: {remedy}", "model")
    elif inspection.processes > 1:
        inspection.fail(
            f"{text}; distributed training stops at this: {remedy}, or set "
            "find_unused_parameters=True",
            "model",
        )
    else:
        inspection.warn(f"{text}; distributed training would stop at this: {remedy}", "model")


def _optimizers(wrapper: Any) -> list[torch.optim.Optimizer]:
    if hasattr(wrapper, "optimizer"):
        return [wrapper.optimizer]
    return [inner.optimizer for inner in wrapper.values()]


def _check_schedulers(inspection: Inspection, wrapper: Any, steps: int) -> None:
    unit = length(inspection.cfg)[1]
    for k, scheduler in enumerate(listed(inspection.cfg.get("param_scheduler"))):
        where = f"param_scheduler[{k}]"
        options = dict(scheduler, optimizer=wrapper)
        try:
            cls = PARAM_SCHEDULERS.get(options["type"])
            if options.pop("convert_to_iter_based", False):
                del options["type"]
                epoch = inspection.measured["epoch"]
                cls.build_iter_from_epoch(**options, epoch_length=epoch)
            else:
                PARAM_SCHEDULERS.build(options)
        except Exception as error:  # schedulers raise what they like
            inspection.fail(in_words(error), where)
            continue
        end = scheduler.get("end")
        if unit == "epochs" and not scheduler.get("by_epoch", True) and end and end > steps:
            inspection.warn(
                f"{scheduler['type']} ends at iteration {end}, but training has only {steps} "
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
