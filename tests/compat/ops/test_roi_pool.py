import math

import torch
import torchvision
from mmcv.ops import roi_pool

# Inside, over the edges, outside, one pixel, inside out; two images.
ROIS = torch.tensor(
    [
        [0, 2, 1, 11, 9],
        [1, -5, -3, 6, 4],
        [0, 9, 8, 40, 31],
        [1, 50, 50, 60, 55],
        [1, 6, 5, 6, 5],
        [0, 8, 8, 2, 3],
    ],
    dtype=torch.float64,
)


def definition(input, rois, size, scale):
    output = torch.zeros(len(rois), input.size(1), *size, dtype=input.dtype)
    for r, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        width, height = (x2 + 1 - x1) * scale, (y2 + 1 - y1) * scale
        if width <= 0 or height <= 0:
            continue
        for i in range(size[0]):
            for j in range(size[1]):
                top = max(0, math.floor(y1 * scale + i * height / size[0]))
                bottom = max(0, math.ceil(y1 * scale + (i + 1) * height / size[0]))
                left = max(0, math.floor(x1 * scale + j * width / size[1]))
                right = max(0, math.ceil(x1 * scale + (j + 1) * width / size[1]))
                window = input[int(image), :, top:bottom, left:right]
                if window.numel():
                    output[r, :, i, j] = window.amax((1, 2))
    return output


def test_forward_equals_the_definition():
    input = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    for scale in (1.0, 0.5):
        expected = definition(input, ROIS, (3, 2), scale)
        assert torch.equal(roi_pool(input, ROIS, (3, 2), scale), expected)


def test_equals_torchvision_on_whole_pixels_at_full_scale():
    input, rois = torch.randn(2, 3, 30, 40), ROIS[:5].float()
    expected = torchvision.ops.roi_pool(input, rois, (7, 7))
    torch.testing.assert_close(roi_pool(input, rois, (7, 7)), expected)


def test_gradient():
    input = torch.randn(2, 2, 7, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, ROIS, (3, 2), 0.5), (input,))


def test_no_regions_and_half():
    input = torch.randn(2, 3, 7, 9).half().requires_grad_()
    assert roi_pool(input, ROIS[:0].half(), (3, 2)).shape == (0, 3, 3, 2)
    output = roi_pool(input, ROIS.half(), (3, 2), 0.5)
    assert torch.equal(output, definition(input.detach(), ROIS, (3, 2), 0.5))
    output.sum().backward()
    # The gradient of a maximum is a whole number: how many bins have it.
    assert input.grad.sum() == output.ne(0).sum()
