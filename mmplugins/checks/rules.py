"""What entries must hold, as data: forms that are met late, ranges that no constructor refuses.

A rule holds for every entry of its name, wherever it stands in a config; texts and dicts in the
place of numbers are left to the constructors, unless numbers are all that can be meant.
"""

from __future__ import annotations

import math
import multiprocessing
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.runner import Priority, get_priority

from mmplugins.utils import did_you_mean

from .explain import shown, walk
from .inspection import Inspection

Holds = Callable[[Any], bool]


@dataclass(frozen=True)
class Rule:
    """What an entry must hold.

    Attributes:
        names: Names of entries, the last of a dotted path; several, separated by blanks; ``'*'``
            for all.
        holds: Whether a value is right.
        expected: What is expected, for the message.
        below: Regular expression that the path above must hold. Defaults to any.
        near: Names among which to look for one that was meant. Defaults to none.
        empty: Whether None is right. Defaults to True.
    """

    names: str
    holds: Holds
    expected: str
    below: str = ""
    near: Sequence[str] = ()
    empty: bool = True


def numbers(holds: Holds, sure: bool = False) -> Holds:
    """Numbers, or lists of them, for which a condition holds; what else there is, if not sure."""

    def each(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return all(map(each, value))
        return holds(value) if isinstance(value, int | float) else not sure

    return each


def within(low: float, high: float = math.inf, open_low: bool = False, sure: bool = False) -> Holds:
    """Numbers from ``low`` (or above it) to ``high``."""
    return numbers(lambda v: low < v <= high if open_low else low <= v <= high, sure)


def whole(low: int, *others: int, sure: bool = True) -> Holds:
    """A whole number from ``low``, or one of some others; what else there is, if not sure."""

    def one(value: Any) -> bool:
        if isinstance(value, int | float):
            return float(value).is_integer() and (value >= low or value in others)
        return not sure

    return one


def one_of(names: Sequence[str]) -> Holds:
    return lambda value: value in names or isinstance(value, int)


def is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_no_text(value: Any) -> bool:
    return not isinstance(value, str)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def is_priority(value: Any) -> bool:
    try:
        return get_priority(value) is not None
    except (KeyError, TypeError, ValueError):
        return False


LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
STARTS = multiprocessing.get_all_start_methods()

_TOP, _LOADER = "^$", r"_dataloader$"
_DATA = r"_dataloader\.dataset(\.datasets?(\[\d+\])?)*$"
_OPTIMIZER = r"^optim_wrapper(\.\w+)*\.optimizer$"
_SCHEDULER, _SAVING = r"^param_scheduler", r"^default_hooks\.checkpoint"
_DEPLOYED = r"test_cfg|train_cfg"
_ABOVE, _FROM_0 = within(0, open_low=True), within(0)
_SURE_ABOVE = within(0, open_low=True, sure=True)

_EXAMPLES = {
    **{f"{split}_dataloader": "batch_size=2, dataset=dict(...)" for split in ("train", "val")},
    "test_dataloader": "batch_size=1, dataset=dict(...)",
    "train_cfg": "type='EpochBasedTrainLoop', max_epochs=12",
    "val_cfg": "type='ValLoop'",
    "test_cfg": "type='TestLoop'",
    "model": "type='RetinaNet', ...",
    "optim_wrapper": "type='OptimWrapper', optimizer=dict(...)",
    "auto_scale_lr": "enable=False, base_batch_size=16",
    "default_hooks": "checkpoint=dict(type='CheckpointHook', interval=1)",
    "env_cfg": "dist_cfg=dict(backend='nccl')",
    "randomness": "seed=0",
    "log_processor": "type='LogProcessor', window_size=50",
    "visualizer": "type='DetLocalVisualizer'",
}
"""Entries that the runner takes apart, and an example of what is in them."""

FORMS = (
    *(Rule(k, is_dict, f"a dict, {k}=dict({text})", _TOP) for k, text in _EXAMPLES.items()),
    Rule("custom_hooks", is_list, "a list, custom_hooks=[dict(type='EMAHook')]", _TOP),
    Rule("resume", lambda v: isinstance(v, bool),
         "True or False; the file to go on from is load_from", _TOP),
    Rule("log_level", one_of(LEVELS), f"one of {', '.join(LEVELS)}", _TOP, LEVELS),
    Rule("mp_start_method", one_of(STARTS), f"one of {', '.join(STARTS)}", "env_cfg", STARTS),
    Rule("mp_cfg", is_dict, "a dict, mp_cfg=dict(mp_start_method='fork')", "^env_cfg$",
         empty=False),
    Rule("sampler batch_sampler", lambda v: is_no_text(v) and not isinstance(v, int | float | list),
         "dict(type=...)", _LOADER),
    Rule("collate_fn worker_init_fn", is_no_text, "dict(type=...)", _LOADER),
    Rule("init_cfg", is_no_text, "dict(type='Pretrained', checkpoint='...')"),
    Rule("pipeline", is_list, "a list of steps, [dict(type=...), ...]", _DATA),
    Rule("datasets", bool, "a list of data sets", _DATA),
    Rule("data_root", is_text, "the path of a folder", _DATA),
    Rule("ann_file", is_text, "the path of a file below data_root", _DATA, empty=False),
    Rule("data_prefix", is_dict,
         "a dict, such as dict(img='images/') or dict(img_path='images/')", _DATA),
    Rule("metainfo", is_dict, "a dict, metainfo=dict(classes=('first', 'second', ...))", _DATA),
    Rule("generate", is_dict, "a dict, such as dict(image_size=128)", _DATA),
    Rule("*", is_dict, "a dict, dict(lr_mult=0.1)", r"paramwise_cfg\.custom_keys$"),
    Rule("priority", is_priority,
         f"{', '.join(Priority.__members__)}, or a number from 0, the first, to 100", "_hooks"),
)  # fmt: skip
"""Values of another kind, which OpenMMLab meets late or never."""

RANGES = (
    Rule("lr", _SURE_ABOVE, "a number above 0, for example 1e-4 with AdamW", _OPTIMIZER),
    Rule("weight_decay", within(0, 0.999, sure=True), "0 or a small number such as 0.05",
         _OPTIMIZER),
    Rule("momentum", within(0, 0.9999, sure=True), "0 to 1, 1 excluded, such as 0.9", _OPTIMIZER),
    Rule("betas", within(0, 0.999999), "0 to 1, 1 excluded, such as (0.9, 0.999)", _OPTIMIZER),
    Rule("lr_mult decay_mult", _FROM_0, "0 or more; 1 changes nothing", r"^optim_wrapper"),
    Rule("decay_rate", within(0, 1, True), "above 0, up to 1", r"paramwise_cfg$"),
    Rule("max_norm clip_value", _SURE_ABOVE, "a bound above 0, or clip_grad=None", r"clip_grad$"),
    Rule("accumulative_counts", whole(1), "a whole number of batches, 1 or more"),
    Rule("gamma factor", _SURE_ABOVE, "a number above 0", _SCHEDULER),
    Rule("start_factor end_factor", within(0, sure=True), "0 to 1", _SCHEDULER),
    Rule("eta_min eta_max power", is_number, "a number", _SCHEDULER),
    Rule("begin end T_max", whole(0, -1), "a whole number of steps", _SCHEDULER),
    Rule("milestones", lambda v: is_list(v) and all(isinstance(m, int) for m in v),
         "whole numbers of epochs or iterations, for example [8, 11]", _SCHEDULER),
    Rule("max_epochs max_iters", whole(1), "how long to train, a whole number above 0",
         "^train_cfg"),
    Rule("val_interval", whole(1), "a whole number, 1 or more", "^train_cfg"),
    Rule("val_begin", whole(0), "a whole number, 0 or more", "^train_cfg"),
    Rule("interval", whole(1, -1), "a whole number, 1 or more", _SAVING),
    Rule("max_keep_ckpts", whole(1, -1), "a whole number, 1 or more, or -1 for all", _SAVING),
    Rule("window_size", whole(1), "a whole number of iterations", r"^log_processor"),
    Rule("batch_size", whole(1), "a whole number, 1 or more", _LOADER, empty=False),
    Rule("opencv_num_threads", whole(-1), "a whole number of threads", r"^env_cfg\.mp_cfg$"),
    Rule("num_workers", whole(0), "a whole number, 0 or more", _LOADER),
    Rule("loss_weight", _FROM_0, "a positive weight", "^model"),
    Rule("alpha", within(-1, 4), "0 to 1, the weight of positives", r"loss_cls$"),
    Rule("gamma beta", _FROM_0, "0 or more", r"\.loss_\w+$"),
    Rule("drop_path_rate drop_rate attn_drop_rate", within(0, 0.999999),
         "a probability, 0 up to 1", "^model"),
    Rule("dropout_ratio", within(-1, 0.999999), "a probability, 0 up to 1", "^model"),
    Rule("momentum", within(0, 1), "0 to 1; 0.1 is torch's own", r"norm_cfg$"),
    Rule("eps", within(0, 0.1), "a small number such as 1e-5", r"norm_cfg$"),
    Rule("pos_iou_thr neg_iou_thr ignore_iof_thr", within(-1, 1), "an overlap, 0 to 1", "^model"),
    Rule("min_pos_iou", within(0, 1), "an overlap, 0 to 1", "^model"),
    Rule("pos_fraction", within(0, 1), "a share, 0 to 1", "^model"),
    Rule("iou_threshold", within(0, 1, True), "an overlap above 0, up to 1", _DEPLOYED),
    Rule("score_thr", within(-1, 0.999999), "a score, 0 up to 1", _DEPLOYED),
    Rule("mask_thr_binary", within(-1, 1), "a probability, 0 to 1", _DEPLOYED),
    Rule("nms_pre max_per_img", whole(1, -1, 0, sure=False),
         "a whole number, 1 or more, or -1 for all", _DEPLOYED),
    Rule("ratios scales strides octave_base_scale scales_per_octave base_sizes", _ABOVE,
         "positive numbers", r"anchor_generator$"),
    Rule("target_stds", _ABOVE, "numbers above 0; boxes are divided by them", r"bbox_coder$"),
    Rule("pad_size_divisor size_divisor", whole(1), "a whole number of pixels, such as 32",
         "data_preprocessor$"),
    Rule("std", _ABOVE, "numbers above 0; pictures are divided by them", "data_preprocessor$"),
    Rule("size", within(1, sure=True), "height and width, such as (512, 512)",
         "data_preprocessor$"),
    Rule("prob", within(0, 1), "a probability, 0 to 1", r"pipeline"),
    Rule("seed", numbers(lambda v: v == int(v) and 0 <= v < 2**32, True),
         "a whole number from 0 to 2**32 - 1, or None", "^randomness$"),
)  # fmt: skip
"""Values out of range spoil a training without a sign. What a stock config breaks is no rule."""

_BY_NAME: dict[str, list[Rule]] = {}
for _rule in (*FORMS, *RANGES):
    for _name in _rule.names.split():
        _BY_NAME.setdefault(_name, []).append(_rule)


def violations(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Paths below a config entry that break a rule, and what to say of each."""
    for path, one in walk(value, where):
        above, _, name = path.rpartition(".")
        if isinstance(one, float) and math.isnan(one):
            yield path, "is NaN: expected a number, check how it is computed"
            continue
        for rule in (*_BY_NAME.get(name, ()), *_BY_NAME["*"]):
            wrong = not rule.empty if one is None else not rule.holds(one)
            if wrong and re.search(rule.below, above):
                near = did_you_mean(one, rule.near)
                yield path, f"is {shown(one)}: expected {rule.expected}{near and '.'}{near}"


def check_values(inspection: Inspection) -> str:
    """Entries of another form, outside their range or NaN, and rates that can hardly be meant."""
    cfg = inspection.cfg.to_dict()
    for where, said in violations(cfg):
        inspection.fail(said, where)
    for where, value in walk(cfg):
        if where.endswith("loss_weight") and value == 0 and not isinstance(value, bool):
            inspection.warn("is 0, which switches the loss off: give a positive weight", where)
        adam = isinstance(value, Mapping) and "Adam" in str(value.get("type"))
        rate = value.get("lr") if adam and where.startswith("optim_wrapper") else None
        if isinstance(rate, int | float) and rate > 1:
            inspection.warn(
                f"is {rate}, and {value['type']} moves every weight by about that much in each "
                "step: give for example 1e-4",
                f"{where}.lr",
            )
    return "values are in their ranges"
