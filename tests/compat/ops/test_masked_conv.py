import pytest
import torch
from mmcv.ops import MaskedConv2d


@pytest.mark.parametrize("kernel", [1, 3, (3, 5)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_convolves_where_the_mask_says(kernel, share):
    padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
    conv = MaskedConv2d(3, 4, kernel, padding=padding)
    image = torch.randn(1, 3, 6, 7)
    mask = torch.rand(1, 6, 7) < share
    with torch.no_grad():
        expected = conv(image) * mask
        torch.testing.assert_close(conv(image, mask), expected, atol=1e-6, rtol=1e-5)


def test_half():
    conv = MaskedConv2d(3, 4, 3, padding=1).half()
    image = torch.randn(1, 3, 6, 7).half()
    with torch.no_grad():
        output = conv(image, torch.ones(1, 6, 7))
        torch.testing.assert_close(output, conv(image), atol=2e-3, rtol=1e-2)
