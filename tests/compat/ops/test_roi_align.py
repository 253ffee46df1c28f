import math
from importlib import import_module

import pytest
import torch
from mmcv.ops import roi_align

MODULE = import_module("mmplugins.compat.ops.roi_align")
# Inside, over each edge, all outside, without area, one pixel, the whole map; two images.
ROIS = torch.tensor(
    [
        [0, 3.2, 2.1, 11.9, 9.3],
        [1, -5.0, -3.5, 6.0, 4.0],
        [0, 9.0, 8.0, 40.0, 31.0],
        [1, 50.0, 50.0, 60.0, 55.0],
        [0, 4.0, 4.0, 4.0, 4.0],
        [1, 6.0, 5.0, 6.7, 5.6],
        [1, 0.0, 0.0, 18.0, 14.0],
    ],
    dtype=torch.float64,
)


@pytest.fixture(params=["kernel", "matrices"])
def way(request, monkeypatch):
    """Gradients by torchvision's kernel, and as in deterministic mode on CUDA, on any device."""
    monkeypatch.setattr(MODULE, "_must_repeat", lambda gradient: request.param == "matrices")


def features(height=7, width=9):
    return torch.randn(2, 2, height, width, dtype=torch.float64)


def sample(image, y, x):
    """Bilinear sample; up to a pixel off the image it takes the border's value, then zero."""
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    dy, dx = y - top, x - left
    upper = (1 - dx) * image[top][left] + dx * image[top][left + 1]
    lower = (1 - dx) * image[top + 1][left] + dx * image[top + 1][left + 1]
    return float((1 - dy) * upper + dy * lower)


def definition(input, rois, size, scale, sampling_ratio, mode, aligned):
    output = torch.zeros(len(rois), input.size(1), *size, dtype=torch.float64)
    for r, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in corners)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        bin_h, bin_w = height / size[0], width / size[1]
        steps_y = sampling_ratio or math.ceil(bin_h)
        steps_x = sampling_ratio or math.ceil(bin_w)
        for c in range(input.size(1)):
            for i in range(size[0]):
                for j in range(size[1]):
                    values = [
                        sample(
                            input[int(image), c],
                            y1 + (i + (a + 0.5) / steps_y) * bin_h,
                            x1 + (j + (b + 0.5) / steps_x) * bin_w,
                        )
                        for a in range(steps_y)
                        for b in range(steps_x)
                    ]
                    if values:
                        pooled = max(values) if mode == "max" else sum(values) / len(values)
                        output[r, c, i, j] = pooled
    return output


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_forward_equals_the_definition(mode, sampling_ratio, aligned):
    settings = ((3, 2), 0.5, sampling_ratio, mode, aligned)
    input = features()
    expected = definition(input, ROIS, *settings)
    torch.testing.assert_close(roi_align(input, ROIS, *settings), expected)
    single = roi_align(input.float(), ROIS.float(), *settings)
    torch.testing.assert_close(single, expected.float(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_gradient(way, mode, sampling_ratio, aligned):
    input = features(4, 5).requires_grad_()
    pool = lambda x: roi_align(x, ROIS, (2, 2), 0.3, sampling_ratio, mode, aligned)  # noqa: E731
    assert torch.autograd.gradcheck(pool, (input,), fast_mode=True)
    assert torch.autograd.grad(pool(input).sum(), input)[0].abs().sum() > 0


def many(count=64):
    corners = torch.rand(count, 2) * torch.tensor([600.0, 400])
    sizes = torch.rand(count, 2) ** 2 * 300
    return torch.cat([torch.randint(0, 2, (count, 1)), corners, corners + sizes], 1)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_gradients_agree_on_a_detector_s_sizes(monkeypatch, sampling_ratio):
    input, rois = torch.randn(2, 8, 50, 76, requires_grad=True), many()
    output = roi_align(input, rois, 7, 1 / 8, sampling_ratio)
    upstream = torch.randn_like(output)
    expected = torch.autograd.grad(output, input, upstream, retain_graph=True)[0]
    monkeypatch.setattr(MODULE, "_must_repeat", lambda gradient: True)
    for chunk in (2**24, 20_000):
        monkeypatch.setattr(MODULE, "CHUNK", chunk)
        found = torch.autograd.grad(output, input, upstream, retain_graph=True)[0]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_no_regions(way, mode):
    input = features().requires_grad_()
    output = roi_align(input, ROIS[:0], (3, 2), 1.0, 0, mode)
    assert output.shape == (0, 2, 3, 2)
    assert torch.autograd.grad(output.sum(), input)[0].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_half_is_computed_in_single(way, dtype, mode):
    input = features().to(dtype).requires_grad_()
    output = roi_align(input, ROIS.float(), (3, 2), 0.5, 0, mode)
    expected = roi_align(input.detach().float(), ROIS.float(), (3, 2), 0.5, 0, mode)
    assert output.dtype == dtype and torch.equal(output, expected.to(dtype))
    output.sum().backward()
    assert input.grad.dtype == dtype and input.grad.isfinite().all()


def test_autocast_does_not_reach_the_matrix_products(way):
    input, rois = features().float().requires_grad_(), ROIS.float()
    output = roi_align(input, rois, (3, 2), 0.5)
    expected = torch.autograd.grad(output.square().sum(), input, retain_graph=True)[0]
    with torch.autocast("cpu", torch.bfloat16):
        again = roi_align(input, rois, (3, 2), 0.5)
        assert torch.equal(again, output)
        assert torch.equal(torch.autograd.grad(again.square().sum(), input)[0], expected)


def test_inverted_region_is_named():
    rois = ROIS.clone()
    rois[2, 3] = 1.0
    with pytest.raises(ValueError, match=r"region 2 is \[0.0, 9.0, 8.0, 1.0, 31.0\].*x2 >= x1"):
        roi_align(features(), rois, (3, 2), 1.0, 0, "avg", True)
    assert roi_align(features(), rois, (3, 2), 1.0, 0, "avg", False).isfinite().all()
