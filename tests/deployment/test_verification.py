"""Differences between two forms of a model are seen, whatever the order of the objects."""

from __future__ import annotations

import numpy as np
import pytest

from mmplugins.deployment.errors import ExportError
from mmplugins.deployment.verification import check, compare


def objects(count=20, seed=0):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 200, (count, 2))
    return dict(
        image=np.repeat([0, 1], [count // 2, count - count // 2]),
        boxes=np.concatenate([corners, corners + random.uniform(5, 50, (count, 2))], 1),
        scores=random.uniform(0.1, 1, count),
        labels=random.integers(0, 3, count),
        masks=random.random((count, 4, 4)),
    )


def test_order_does_not_matter():
    expected = objects()
    order = np.random.default_rng(1).permutation(20)
    found = compare({k: v[order] for k, v in expected.items()}, expected)
    assert (found.objects, found.unmatched, found.boxes, found.scores) == (20, 0, 0.0, 0.0)
    check(found, "it")


@pytest.mark.parametrize(
    ("part", "shift", "message"),
    [
        ("boxes", 0.2, "boxes differ by 0.2"),
        ("scores", 0.01, "scores differ by 0.01"),
        ("masks", 0.1, "masks differ by 0.1"),
        ("boxes", np.nan, "objects have no partner"),
        ("scores", np.nan, "have no partner|scores differ by inf"),
    ],
)
def test_one_wrong_number_is_seen(part, shift, message):
    expected, found = objects(), objects()
    found[part][(3,) + (0,) * (found[part].ndim - 1)] += shift
    with pytest.raises(ExportError, match=message):
        check(compare(found, expected), "it")


def test_another_class_and_a_missing_object_are_seen():
    expected, found = objects(), objects()
    found["labels"][2] = (found["labels"][2] + 1) % 3
    with pytest.raises(ExportError, match="objects have no partner"):
        check(compare(found, expected), "it")
    best = int(expected["scores"].argmax())
    less = {k: np.delete(v, best, 0) for k, v in expected.items()}
    for pair in ((less, expected), (expected, less)):
        assert compare(*pair).unmatched == 1


def test_the_last_place_is_a_matter_of_rounding():
    expected = objects()
    last = int(expected["scores"].argmin())
    found = compare({k: np.delete(v, last, 0) for k, v in expected.items()}, expected)
    assert found.unmatched == 0 and found.objects == 19


def test_nothing_compared_is_no_proof():
    none = {k: v[:0] for k, v in objects().items()}
    with pytest.raises(ExportError, match="nothing was found, so nothing was compared"):
        check(compare(none, none), "it")


def test_maps():
    random = np.random.default_rng(0)
    logits = random.normal(size=(1, 3, 20, 30))
    expected = dict(logits=logits, labels=logits.argmax(1))
    check(compare(expected, expected), "it")
    other = logits.copy()
    other[0, 0, 0, 0] += 0.1
    with pytest.raises(ExportError, match="logits differ by"):
        check(compare(dict(logits=other, labels=other.argmax(1)), expected), "it")
