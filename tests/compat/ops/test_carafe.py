from importlib import import_module

import pytest
import torch
from mmcv.ops import carafe, carafe_naive

ops = import_module("mmplugins.compat.ops")
SETTINGS = (3, 2, 2)  # window, groups, scale


def tensors(dtype=torch.float64):
    return torch.randn(2, 4, 3, 5, dtype=dtype), torch.rand(2, 18, 6, 10, dtype=dtype)


def definition(features, masks, kernel, groups, scale):
    n, channels, height, width = features.shape
    output = torch.zeros(n, channels, height * scale, width * scale, dtype=features.dtype)
    for b, c, y, x in torch.cartesian_prod(*(torch.arange(s) for s in output.shape)).tolist():
        group = c // (channels // groups)
        for dy in range(kernel):
            for dx in range(kernel):
                row, column = y // scale + dy - kernel // 2, x // scale + dx - kernel // 2
                if 0 <= row < height and 0 <= column < width:
                    weight = masks[b, (group * kernel + dy) * kernel + dx, y, x]
                    output[b, c, y, x] += weight * features[b, c, row, column]
    return output


@pytest.mark.parametrize("op", [carafe, carafe_naive])
def test_forward_equals_the_definition(op):
    features, masks = tensors()
    expected = definition(features, masks, *SETTINGS)
    torch.testing.assert_close(op(features, masks, *SETTINGS), expected)


def test_gradient():
    args = tuple(t.requires_grad_() for t in tensors())
    assert torch.autograd.gradcheck(lambda *t: carafe(*t, *SETTINGS), args, fast_mode=True)


def test_naive_gradient_is_that_of_the_definition():
    # Called directly: mmcv's own backward function insists on CUDA.
    features, masks = (t.requires_grad_() for t in tensors())
    output = definition(features, masks, *SETTINGS)
    upstream = torch.randn_like(output)
    expected = torch.autograd.grad(output, (features, masks), upstream)
    gradients = torch.zeros_like(features), torch.zeros_like(masks)
    ops.carafe_naive_backward(upstream, features, masks, *gradients, *SETTINGS)
    torch.testing.assert_close(gradients, expected)


def test_half_is_computed_in_single():
    args = [t.half().requires_grad_() for t in tensors()]
    output = carafe(*args, *SETTINGS)
    single = carafe(*(t.detach().float() for t in args), *SETTINGS)
    assert torch.equal(output, single.half())
    output.sum().backward()
    assert all(t.grad.dtype == torch.float16 for t in args)
