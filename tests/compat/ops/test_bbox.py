import pytest
import torch
import torchvision
from mmcv.ops import bbox_overlaps


def boxes(count):
    corners = torch.rand(count, 2) * 20
    return torch.cat([corners, corners + torch.rand(count, 2) * 20], 1)


def test_iou_equals_torchvision():
    a, b = boxes(30), boxes(40)
    torch.testing.assert_close(bbox_overlaps(a, b), torchvision.ops.box_iou(a, b))


def test_aligned_is_the_diagonal():
    a, b = boxes(30), boxes(30)
    for mode in ("iou", "iof"):
        for offset in (0, 1):
            every = bbox_overlaps(a, b, mode=mode, offset=offset)
            aligned = bbox_overlaps(a, b, mode=mode, aligned=True, offset=offset)
            torch.testing.assert_close(aligned, every.diagonal())


@pytest.mark.parametrize(
    "mode, offset, expected", [("iou", 0, 2 / 12), ("iou", 1, 6 / 21), ("iof", 0, 2 / 6)]
)
def test_worked_example(mode, offset, expected):
    # 2 x 3 and 4 x 2 pixels that share 1 x 2; with the last pixel counted 3 x 4, 5 x 3 and 2 x 3.
    a, b = torch.tensor([[0.0, 0, 2, 3]]), torch.tensor([[1.0, 1, 5, 3]])
    torch.testing.assert_close(
        bbox_overlaps(a, b, mode=mode, offset=offset), torch.tensor([[expected]])
    )


def test_empty_half_and_no_area():
    assert bbox_overlaps(torch.zeros(0, 4), boxes(3)).shape == (0, 3)
    a = boxes(5).half()
    overlaps = bbox_overlaps(a, a)
    assert overlaps.dtype == torch.float16
    torch.testing.assert_close(overlaps, torchvision.ops.box_iou(a.float(), a.float()).half())
    point = torch.ones(1, 4)
    assert bbox_overlaps(point, point).isnan().all()
