import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

SHAPES = torch.tensor([[4, 3], [2, 2]])
STARTS = torch.tensor([0, 12])


def tensors(dtype=torch.float64):
    """Value, sampling locations (some off the map) and weights: 2 images, 3 queries, 2 heads."""
    value = torch.randn(2, 16, 2, 4, dtype=dtype)
    locations = torch.rand(2, 3, 2, 2, 5, 2, dtype=dtype) * 1.4 - 0.2
    weights = torch.rand(2, 3, 2, 2, 5, dtype=dtype)
    return value, locations, weights


def attend(value, locations, weights):
    args = (value, SHAPES, STARTS, locations, weights, 64)
    return MultiScaleDeformableAttnFunction.apply(*args)


def test_forward_equals_the_definition(bilinear):
    value, locations, weights = tensors()
    expected = torch.zeros(2, 3, 2, 4, dtype=torch.float64)
    for n, q, head, level, point in torch.cartesian_prod(
        *(torch.arange(s) for s in weights.shape)
    ).tolist():
        height, width = SHAPES[level].tolist()
        start = int(STARTS[level])
        for c in range(4):
            plane = value[n, start : start + height * width, head, c].view(height, width)
            x, y = locations[n, q, head, level, point].tolist()
            sampled = bilinear(plane, y * height - 0.5, x * width - 0.5)
            expected[n, q, head, c] += weights[n, q, head, level, point] * sampled
    torch.testing.assert_close(attend(value, locations, weights), expected.flatten(2))


def test_gradient():
    assert torch.autograd.gradcheck(attend, tuple(t.requires_grad_() for t in tensors()))


def test_half_is_computed_in_single():
    args = [t.half().requires_grad_() for t in tensors()]
    output = attend(*args)
    assert torch.equal(output, attend(*(t.detach().float() for t in args)).half())
    output.sum().backward()
    assert all(t.grad.dtype == torch.float16 for t in args)
