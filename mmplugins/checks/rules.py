"""Values that no constructor refuses, and that spoil a training without a sign: ranges, as data.

A rule holds for every entry of its name, wherever it stands in a config; texts and dicts in its
place are left to the constructors, unless the rule says that a number is all that can be meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .explain import walk
from .inspection import Inspection, listed


@dataclass(frozen=True)
class Rule:
    """What an entry must hold.

    Attributes:
        names: Names of entries, the last of a dotted path; several, separated by blanks.
        holds: Whether a value is right.
        expected: What is expected, for the message.
        below: Regular expression that the path above must hold. Defaults to any.
        sure: Whether a number is all that can be meant, so that texts are failures, too.
    """

    names: str
    holds: Callable[[Any], bool]
    expected: str
    below: str = ""
    sure: bool = False


def within(low: float, high: float = math.inf, open_low: bool = False) -> Callable[[Any], bool]:
    """Numbers, or lists of them, from ``low`` (or above it) to ``high``."""

    def holds(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return all(map(holds, value))
        return low < value <= high if open_low else low <= value <= high

    return holds


def whole(low: int, *others: int) -> Callable[[Any], bool]:
    """Whole numbers from ``low``, and some others."""
    return lambda v: float(v).is_integer() and (v >= low or v in others)


SHARE, ABOVE, FROM_0 = within(0, 1), within(0, open_low=True), within(0)
_OPTIMIZER = r"^optim_wrapper(\.\w+)*\.optimizer$"
_SCHEDULER = r"^param_scheduler"
_DEPLOYED = r"test_cfg|train_cfg"

RULES = (
    Rule("lr", ABOVE, "a number above 0, for example 1e-4 with AdamW", _OPTIMIZER, True),
    Rule("weight_decay", within(0, 0.999), "0 or a small number such as 0.05", _OPTIMIZER, True),
    Rule("momentum", within(0, 0.9999), "0 to 1, 1 excluded, such as 0.9", _OPTIMIZER, True),
    Rule("betas", within(0, 0.999999), "0 to 1, 1 excluded, such as (0.9, 0.999)", _OPTIMIZER),
    Rule("lr_mult decay_mult", FROM_0, "0 or more; 1 changes nothing", r"^optim_wrapper"),
    Rule("decay_rate", within(0, 1, True), "above 0, up to 1", r"paramwise_cfg$"),
    Rule("max_norm clip_value", ABOVE, "a bound above 0, or clip_grad=None", r"clip_grad$", True),
    Rule("accumulative_counts", whole(1), "a whole number of batches, 1 or more", "", True),
    Rule("gamma factor", ABOVE, "a number above 0", _SCHEDULER, True),
    Rule("start_factor end_factor", FROM_0, "0 to 1", _SCHEDULER, True),
    Rule("begin end T_max", whole(0, -1), "a whole number of steps", _SCHEDULER, True),
    Rule("max_epochs max_iters", whole(1), "how long to train, a whole number above 0",
         "^train_cfg", True),
    Rule("val_interval", whole(1), "a whole number, 1 or more", "^train_cfg", True),
    Rule("val_begin", whole(0), "a whole number, 0 or more", "^train_cfg", True),
    Rule("interval", whole(1, -1), "a whole number, 1 or more",
         r"^default_hooks\.checkpoint", True),
    Rule("max_keep_ckpts", whole(1, -1), "a whole number, 1 or more, or -1 for all",
         r"^default_hooks\.checkpoint", True),
    Rule("window_size", whole(1), "a whole number of iterations", r"^log_processor", True),
    Rule("batch_size", whole(1), "a whole number, 1 or more", "_dataloader$", True),
    Rule("num_workers", whole(0), "a whole number, 0 or more", "_dataloader$", True),
    Rule("loss_weight", within(0), "a positive weight", "^model"),
    Rule("alpha", within(-1, 4), "0 to 1, the weight of positives", r"loss_cls$"),
    Rule("gamma beta", FROM_0, "0 or more", r"\.loss_\w+$"),
    Rule("drop_path_rate drop_rate attn_drop_rate", within(0, 0.999999),
         "a probability, 0 up to 1", "^model"),
    Rule("momentum", within(0, 1), "0 to 1; 0.1 is torch's own", r"norm_cfg$"),
    Rule("eps", within(0, 0.1), "a small number such as 1e-5", r"norm_cfg$"),
    Rule("pos_iou_thr neg_iou_thr ignore_iof_thr", within(-1, 1), "an overlap, 0 to 1", "^model"),
    Rule("min_pos_iou", within(0, 1), "an overlap, 0 to 1", "^model"),
    Rule("pos_fraction", SHARE, "a share, 0 to 1", "^model"),
    Rule("iou_threshold", within(0, 1, True), "an overlap above 0, up to 1", _DEPLOYED),
    Rule("score_thr", within(-1, 0.999999), "a score, 0 up to 1", _DEPLOYED),
    Rule("mask_thr_binary", within(-1, 1), "a probability, 0 to 1", _DEPLOYED),
    Rule("nms_pre max_per_img", whole(1, -1, 0), "a whole number, 1 or more, or -1 for all",
         _DEPLOYED),
    Rule("ratios scales strides octave_base_scale scales_per_octave base_sizes", ABOVE,
         "positive numbers", r"anchor_generator$"),
    Rule("target_stds", ABOVE, "numbers above 0; boxes are divided by them", r"bbox_coder$"),
    Rule("pad_size_divisor size_divisor", whole(1), "a whole number of pixels, such as 32",
         "data_preprocessor$", True),
    Rule("std", ABOVE, "numbers above 0; pictures are divided by them", "data_preprocessor$"),
    Rule("prob", SHARE, "a probability, 0 to 1", r"pipeline"),
    Rule("size", within(1), "height and width, such as (512, 512)", "data_preprocessor$", True),
    Rule("dropout_ratio", within(-1, 0.999999), "a probability, 0 up to 1", "^model"),
    Rule("seed", lambda v: v == int(v) and 0 <= v < 2**32,
         "a whole number from 0 to 2**32 - 1, or None", "^randomness$", True),
)  # fmt: skip
"""All rules. What holds for no stock config of mmdet or mmseg is no rule."""

_BY_NAME: dict[str, list[Rule]] = {}
for _rule in RULES:
    for _name in _rule.names.split():
        _BY_NAME.setdefault(_name, []).append(_rule)


def check_values(inspection: Inspection) -> str:
    """Entries outside their range, NaN, and rates that can hardly be meant."""
    count = 0
    for where, value in walk(inspection.cfg.to_dict()):
        if isinstance(value, float) and math.isnan(value):
            inspection.fail("is NaN: expected a number, check how it is computed", where)
            continue
        if where.endswith(".init_cfg") and isinstance(value, str):
            example = f"dict(type='Pretrained', checkpoint={value!r})"
            inspection.fail(f"is {value!r}: expected a dict, {example}", where)
        for rule in _rules_for(where):
            count += 1
            if not _holds(rule, value):
                inspection.fail(f"is {value!r}: expected {rule.expected}", where)
        if where.endswith("loss_weight") and value == 0 and not isinstance(value, bool):
            inspection.warn("is 0, which switches the loss off: give a positive weight", where)
    for where, optimizer in walk(inspection.cfg.get("optim_wrapper"), "optim_wrapper"):
        if isinstance(optimizer, Mapping) and "Adam" in str(optimizer.get("type")):
            rate = optimizer.get("lr")
            if isinstance(rate, int | float) and rate > 1:
                inspection.warn(
                    f"is {rate}, and {optimizer['type']} moves every weight by about that much in "
                    "each step: give for example 1e-4",
                    f"{where}.lr",
                )
    return f"{count} values are in their ranges"


def _rules_for(where: str) -> Iterator[Rule]:
    above, _, name = where.rpartition(".")
    return (rule for rule in _BY_NAME.get(name, ()) if re.search(rule.below, above))


def _holds(rule: Rule, value: Any) -> bool:
    if value is None:
        return True
    numbers = all(isinstance(v, int | float) for one in listed(value) for v in listed(one))
    if not numbers:
        return not rule.sure
    try:
        return rule.holds(value)
    except (TypeError, ValueError):  # a list where a rule knows single numbers
        return not rule.sure
