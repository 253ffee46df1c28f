"""Whether an exported file finds what the model finds: object by object, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from .errors import ExportError

_FAR = 10.0  # pixels between two boxes that are not the same


@dataclass(frozen=True)
class Differences:
    """The largest differences between what two forms of a model put out.

    Attributes:
        objects: How many were compared; pixels for maps.
        unmatched: Objects that only one of them has, whose score is not at its border.
        boxes: In pixels of the network's input.
        scores: Of scores in 0..1.
        labels: Objects of another class; of maps, the share of pixels of another class.
        masks: Of masks in 0..1.
        logits: Relative to the largest logit.
    """

    objects: int = 0
    unmatched: int = 0
    boxes: float = 0.0
    scores: float = 0.0
    labels: float = 0.0
    masks: float = 0.0
    logits: float = 0.0

    def __or__(self, other: Differences) -> Differences:
        """The larger of each, counts added."""
        summed = ("objects", "unmatched")
        values = {
            f.name: (sum if f.name in summed else max)(
                (getattr(self, f.name), getattr(other, f.name))
            )
            for f in fields(self)
        }
        return Differences(**values)

    def __str__(self) -> str:
        """Only what there is to say."""
        shown = [f"{self.objects} compared", f"{self.unmatched} unmatched"]
        names = ("logits", "labels") if self.logits else ("boxes", "scores", "labels", "masks")
        shown += [f"{name} {getattr(self, name):.2g}" for name in names]
        return ", ".join(shown)


BOUNDS = dict(boxes=0.05, scores=1e-3, masks=5e-3, logits=1e-3, labels=1e-3)
"""How large the differences may be in float32: boxes in pixels, scores and masks in 0..1, logits
relative to the largest. Objects as near to the score of the last one as scores may differ may be
missing. Labels are the share of pixels of a map whose class may differ, where two are as likely."""


def check(found: Differences, what: str) -> None:
    """Raise :class:`ExportError` if a difference is larger than its bound."""
    wrong = [
        f"{name} differ by {getattr(found, name):.3g} (bound {bound:.3g})"
        for name, bound in BOUNDS.items()
        if not getattr(found, name) <= bound
    ]
    if found.unmatched:
        wrong.append(f"{found.unmatched} of {found.objects} objects have no partner")
    if not found.objects:
        wrong.append("nothing was found, so nothing was compared: give --pictures with objects")
    if wrong:
        raise ExportError(f"{what} does not compute what the model does: {'; '.join(wrong)}")


def compare(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> Differences:
    """Compare what two forms of a model put out for the same pictures.

    Objects are matched one to one within a picture, the nearest together, so that their order does
    not matter. One without a partner is passed over where its score is as near to the lowest of its
    picture as scores may differ: the last place was a matter of rounding.
    """
    if "logits" in expected:
        theirs, ours = found["logits"], expected["logits"]
        scale = max(float(np.abs(ours).max()), 1e-12)
        other = float((found["labels"] != expected["labels"]).mean())
        largest = float(np.abs(theirs - ours).max()) / scale
        return Differences(ours[:, 0].size, labels=other, logits=_number(largest))
    total = Differences()
    for image in np.unique(np.concatenate([found["image"], expected["image"]])):
        total |= _objects(_of(found, image), _of(expected, image))
    return total


def _of(outputs: Mapping[str, np.ndarray], image: int) -> dict[str, np.ndarray]:
    keep = outputs["image"] == image
    return {name: values[keep] for name, values in outputs.items() if name != "image"}


def _objects(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> Differences:
    a: np.ndarray = found["boxes"].astype(np.float64)
    b: np.ndarray = expected["boxes"].astype(np.float64)
    pairs: list[tuple[int, int]] = []
    if len(a) and len(b):
        cost = np.abs(a[:, None] - b[None]).max(2)
        cost = cost + 1e3 * (found["labels"][:, None] != expected["labels"][None])
        cost = cost + np.abs(found["scores"][:, None] - expected["scores"][None])
        rows, columns = linear_sum_assignment(np.minimum(np.nan_to_num(cost, nan=_FAR), _FAR))
        pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if cost[i, j] < _FAR]
    scores = np.concatenate([found["scores"], expected["scores"]])
    lowest = float(np.nanmin(scores)) if np.isfinite(scores).any() else 0.0
    alone = 0
    for side, taken in ((found, {i for i, _ in pairs}), (expected, {j for _, j in pairs})):
        rest = [float(s) for k, s in enumerate(side["scores"]) if k not in taken]
        alone += sum(not score <= lowest + BOUNDS["scores"] for score in rest)
    if not pairs:
        return Differences(0, alone)
    i, j = (np.array(index) for index in zip(*pairs, strict=True))
    masks = 0.0
    if "masks" in expected:
        masks = float(np.abs(found["masks"][i] - expected["masks"][j]).max())
    return Differences(
        len(pairs),
        alone,
        _number(float(np.abs(a[i] - b[j]).max())),
        _number(float(np.abs(found["scores"][i] - expected["scores"][j]).max())),
        float((found["labels"][i] != expected["labels"][j]).sum()),
        _number(masks),
    )


def _number(value: float) -> float:
    """NaN is no small difference."""
    return float("inf") if np.isnan(value) else value
