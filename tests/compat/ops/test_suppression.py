from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms, nms_match, soft_nms

ops = import_module("mmplugins.compat.ops")


def integer_boxes(count, generator, extent=40, longest=16):
    """Boxes with whole corners, some without area, and scores of which many are equal."""
    corners = torch.randint(0, extent, (count, 2), generator=generator)
    sizes = torch.randint(0, longest, (count, 2), generator=generator)
    scores = torch.randint(1, 20, (count,), generator=generator) / 20
    return torch.cat([corners, corners + sizes], 1).float(), scores


def exact_iou(a, b, offset=0):
    """IoU of two boxes with whole corners as a fraction; 0 if neither has an area."""
    a, b = [int(v) for v in a], [int(v) for v in b]
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = sum((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b))
    union = areas - width * height
    return Fraction(width * height, union) if union else Fraction(0)


def greedy(boxes, scores, threshold, offset=0):
    """Textbook suppression; equal scores in the order of their indices."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i)):
        if all(exact_iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.25, 0.5])
def test_nms_equals_the_textbook_with_ties_and_empty_areas(offset, threshold):
    generator = torch.Generator().manual_seed(offset)
    for count in (1, 2, 17, 150):
        boxes, scores = integer_boxes(count, generator)
        dets, kept = nms(boxes, scores, threshold, offset=offset)
        assert kept.tolist() == greedy(boxes, scores, Fraction(threshold), offset)
        assert torch.equal(dets, torch.cat([boxes[kept], scores[kept, None]], 1))


def test_nms_of_nothing():
    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.int64


def test_nms_keeps_boxes_without_area():
    boxes = torch.tensor([[5.0, 5, 5, 5]]).repeat(4, 1)
    assert nms(boxes, torch.tensor([0.1, 0.4, 0.4, 0.2]), 0.5)[1].tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("width, threshold", [(8, 0.6), (17, 0.7)])
def test_nms_keeps_an_overlap_equal_to_the_threshold(width, threshold):
    # Shifted by a fixed share of their width these overlap by the threshold itself; in float32
    # that is above (0.6) or below (0.7) the double of the same name.
    shift = width * (1 - threshold) / (1 + threshold)
    boxes = torch.tensor([[0.0, 0, width, 1], [round(shift), 0, width + round(shift), 1]])
    assert exact_iou(*boxes) == Fraction(str(threshold))
    assert nms(boxes, torch.tensor([0.9, 0.8]), threshold)[1].tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_every_float(dtype):
    boxes, scores = integer_boxes(100, torch.Generator().manual_seed(3))
    expected = greedy(boxes, scores.to(dtype), Fraction(1, 2))
    assert nms(boxes.to(dtype), scores.to(dtype), 0.5)[1].tolist() == expected


def test_nms_takes_numpy_a_score_threshold_and_a_limit():
    boxes, scores = integer_boxes(100, torch.Generator().manual_seed(4))
    dets, kept = nms(boxes.numpy(), scores.numpy(), 0.5, score_threshold=0.3, max_num=7)
    good = (scores > 0.3).nonzero()[:, 0]
    expected = good[greedy(boxes[good], scores[good], Fraction(1, 2))][:7]
    assert isinstance(dets, np.ndarray) and kept.tolist() == expected.tolist()


@pytest.mark.parametrize("split_thr", [10_000, 50])
def test_batched_nms_treats_classes_apart(split_thr):
    boxes, _ = integer_boxes(200, torch.Generator().manual_seed(5))
    scores = torch.rand(200)
    labels = torch.randint(0, 3, (200,))
    config = {"type": "nms", "iou_threshold": 0.5, "split_thr": split_thr}
    _, kept = batched_nms(boxes, scores, labels, config)
    expected = []
    for label in range(3):
        members = (labels == label).nonzero()[:, 0]
        expected += members[greedy(boxes[members], scores[members], Fraction(1, 2))].tolist()
    assert kept.tolist() == sorted(expected, key=lambda i: -float(scores[i]))


def soften(boxes, scores, threshold, sigma, min_score, method, offset):
    """Figure 2 of the Soft-NMS paper; the first box counts even if it scores too little."""
    left = {i: float(s) for i, s in enumerate(scores)}
    result = []
    while left:
        best = max(left, key=left.get)
        result.append((best, left.pop(best)))
        for i in list(left):
            iou = float(exact_iou(boxes[best], boxes[i], offset))
            if method == "gaussian":
                left[i] *= float(np.exp(-(iou**2) / sigma))
            elif iou >= threshold:
                left[i] *= 0 if method == "naive" else 1 - iou
            if left[i] < min_score:
                del left[i]
    return result


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("offset", [0, 1])
def test_soft_nms_equals_the_paper(method, offset):
    boxes, _ = integer_boxes(80, torch.Generator().manual_seed(6))
    scores = torch.rand(80)
    settings = {"sigma": 0.4, "min_score": 0.05, "method": method, "offset": offset}
    dets, kept = soft_nms(boxes, scores, 0.3, **settings)
    expected = soften(boxes, scores, 0.3, **settings)
    assert 5 < len(expected) < 80
    assert kept.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([s for _, s in expected]))
    assert torch.equal(dets[:, :4], boxes[kept])


def test_soft_nms_ties_follow_the_exchange_of_places():
    # Far apart, so that no score changes. Taking 3 first puts 0 in its place, behind 1 and 2.
    boxes = torch.tensor([[i * 10.0, 0, i * 10 + 5, 5] for i in range(4)])
    assert soft_nms(boxes, torch.tensor([0.5, 0.5, 0.5, 0.9]))[1].tolist() == [3, 1, 2, 0]
    # 1 and 2 fall below the minimum: 5 takes the place of 1, then 4 that of 2.
    boxes = torch.tensor([[i * 10.0, 0, i * 10 + 5, 5] for i in (0, 0, 0, 3, 4, 5)])
    dets, kept = soft_nms(boxes, torch.tensor([0.9, 0.5, 0.5, 0.5, 0.5, 0.5]))
    assert kept.tolist() == [0, 5, 4, 3]
    assert dets.shape == (4, 5)


def test_soft_nms_of_nothing_of_half_and_of_tensors_with_gradient():
    dets, kept = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5) and kept.shape == (0,)
    boxes, scores = integer_boxes(20, torch.Generator().manual_seed(7))
    dets, kept = soft_nms(boxes.half(), scores.half())
    assert dets.dtype == torch.float16 and len(dets) == len(kept)
    assert len(soft_nms(boxes.requires_grad_(), scores.requires_grad_())[0])


def test_soft_nms_gaussian_survives_boxes_without_area():
    boxes = torch.tensor([[5.0, 5, 5, 5]]).repeat(3, 1)
    dets, kept = soft_nms(boxes, torch.tensor([0.2, 0.3, 0.1]), method="gaussian")
    assert kept.tolist() == [1, 0, 2]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.3, 0.2, 0.1]))


def test_nms_match_groups_what_each_kept_box_suppressed():
    boxes, scores = integer_boxes(120, torch.Generator().manual_seed(8))
    left = sorted(range(120), key=lambda i: (-float(scores[i]), i))
    expected = []
    while left:
        best = left.pop(0)
        group = [i for i in left if exact_iou(boxes[best], boxes[i]) >= Fraction(1, 2)]
        left = [i for i in left if i not in group]
        expected.append([best, *group])
    groups = nms_match(torch.cat([boxes, scores[:, None]], 1), 0.5)
    assert [g.tolist() for g in groups] == expected
    assert max(map(len, expected)) > 1
    assert ops.nms_match(torch.zeros(0, 5), 0.5) == []
