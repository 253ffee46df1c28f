import pytest
import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from mmengine.registry import MODELS
from torch.nn.functional import conv2d

GEOMETRIES = {
    "plain": {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "deform_groups": 1},
    "all": {
        "stride": (2, 1),
        "padding": (1, 2),
        "dilation": (1, 2),
        "groups": 2,
        "deform_groups": 2,
    },
}


@pytest.fixture(params=GEOMETRIES)
def geometry(request):
    return GEOMETRIES[request.param]


def tensors(geometry, batch=2, size=(5, 6), kernel=(3, 2), dtype=torch.float64):
    """Input, offset, mask, weight and bias."""
    groups = geometry["groups"]
    input = torch.randn(batch, 4, *size, dtype=dtype)
    weight = torch.randn(2, 4 // groups, *kernel, dtype=dtype)
    settings = {k: v for k, v in geometry.items() if k != "deform_groups"}
    out = conv2d(input, weight, **settings).shape[2:]
    taps = geometry["deform_groups"] * kernel[0] * kernel[1]
    offset = torch.randn(batch, 2 * taps, *out, dtype=dtype) * 2
    mask = torch.rand(batch, taps, *out, dtype=dtype)
    return input, offset, mask, weight, torch.randn(2, dtype=dtype)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def definition(bilinear, input, offset, mask, weight, bias, geometry):
    (stride_y, stride_x), (pad_y, pad_x), (dilation_y, dilation_x) = (
        pair(geometry[k]) for k in ("stride", "padding", "dilation")
    )
    n, channels = input.shape[:2]
    out_channels, per_group, kernel_h, kernel_w = weight.shape
    deform = geometry["deform_groups"]
    offset = offset.view(n, deform, kernel_h * kernel_w, 2, *offset.shape[2:])
    mask = mask.view(n, deform, kernel_h * kernel_w, *mask.shape[2:])
    output = torch.zeros(n, out_channels, *offset.shape[4:], dtype=input.dtype)
    for b, o, i, j in torch.cartesian_prod(*(torch.arange(s) for s in output.shape)).tolist():
        value = float(bias[o])
        first = o // (out_channels // geometry["groups"]) * per_group
        for c in range(per_group):
            d = (first + c) // (channels // deform)
            for tap in range(kernel_h * kernel_w):
                ky, kx = divmod(tap, kernel_w)
                dy, dx = offset[b, d, tap, :, i, j].tolist()
                y = i * stride_y - pad_y + ky * dilation_y + dy
                x = j * stride_x - pad_x + kx * dilation_x + dx
                sampled = bilinear(input[b, first + c], y, x)
                value += float(weight[o, c, ky, kx] * mask[b, d, tap, i, j]) * sampled
        output[b, o, i, j] = value
    return output


def test_modulated_equals_the_definition(bilinear, geometry):
    args = tensors(geometry)
    expected = definition(bilinear, *args, geometry)
    torch.testing.assert_close(modulated_deform_conv2d(*args, *geometry.values()), expected)


def test_first_version_equals_the_definition(bilinear, geometry):
    input, offset, mask, weight, bias = tensors(geometry)
    ones, zeros = torch.ones_like(mask), torch.zeros_like(bias)
    expected = definition(bilinear, input, offset, ones, weight, zeros, geometry)
    torch.testing.assert_close(deform_conv2d(input, offset, weight, *geometry.values()), expected)


def test_without_displacement_it_is_a_convolution(geometry):
    input, offset, mask, weight, bias = tensors(geometry)
    settings = {k: v for k, v in geometry.items() if k != "deform_groups"}
    output = modulated_deform_conv2d(
        input, offset * 0, torch.ones_like(mask), weight, bias, *geometry.values()
    )
    torch.testing.assert_close(output, conv2d(input, weight, bias, **settings))


def test_of_larger_maps_each_samples_first_numbers_count(geometry):
    """As compiled mmcv reads memory; mmdet's DyHead hands over offsets of a finer level."""
    args = [t.requires_grad_() for t in tensors(geometry)]
    expected = modulated_deform_conv2d(*args, *geometry.values())
    weight = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, args, weight)

    def larger(maps):  # the same numbers, then others
        n, channels, height, width = maps.shape
        flat = torch.cat([maps.detach().flatten(1), torch.randn(n, 3 * maps[0].numel())], 1)
        return flat.to(maps.dtype).view(n, channels, 2 * height, 2 * width).requires_grad_()

    given = [args[0], larger(args[1]), larger(args[2]), *args[3:]]
    output = modulated_deform_conv2d(*given, *geometry.values())
    assert torch.equal(output, expected)
    for one, gradient, other in zip(
        wanted, torch.autograd.grad(output, given, weight), given, strict=True
    ):
        flat, count = gradient.flatten(1) if one.ndim > 1 else gradient[None], one[0].numel()
        assert gradient.shape == other.shape
        if one.shape != gradient.shape:
            assert torch.equal(flat[:, :count], one.flatten(1)) and not flat[:, count:].any()
        else:
            assert torch.equal(gradient, one)


def test_of_smaller_maps_there_is_nothing_to_read(geometry):
    input, offset, mask, weight, bias = tensors(geometry)
    with pytest.raises(ValueError, match="expected at least .* values per sample"):
        modulated_deform_conv2d(input, offset[..., 1:], mask, weight, bias, *geometry.values())


def test_dyhead_runs():
    neck = dict(type="mmdet.DyHead", in_channels=16, out_channels=16, zero_init_offset=False)
    neck = MODELS.build(dict(neck, num_blocks=2))
    maps = [torch.randn(2, 16, side, side, requires_grad=True) for side in (32, 16, 8)]
    out = neck(maps)
    assert [x.shape for x in out] == [x.shape for x in maps]
    sum(x.sum() for x in out).backward()
    assert all(x.grad.isfinite().all() and x.grad.any() for x in maps)


@pytest.mark.parametrize("with_bias", [True, False])
def test_modulated_gradients(geometry, with_bias):
    args = [t.requires_grad_() for t in tensors(geometry, batch=1, size=(4, 5))]
    args[4] = args[4] if with_bias else None
    conv = lambda *t: modulated_deform_conv2d(*t, *geometry.values())  # noqa: E731
    assert torch.autograd.gradcheck(conv, tuple(args), fast_mode=True)


def test_first_version_gradients(geometry):
    input, offset, _, weight, _ = tensors(geometry, size=(4, 5))
    args = tuple(t.requires_grad_() for t in (input, offset, weight))
    conv = lambda *t: deform_conv2d(*t, *geometry.values())  # noqa: E731
    assert torch.autograd.gradcheck(conv, args, fast_mode=True)


def test_half_is_computed_in_single(geometry):
    args = [t.half().requires_grad_() for t in tensors(geometry)]
    output = modulated_deform_conv2d(*args, *geometry.values())
    single = modulated_deform_conv2d(*(t.detach().float() for t in args), *geometry.values())
    assert torch.equal(output, single.half())
    output.sum().backward()
    assert all(t.grad.dtype == torch.float16 for t in args)
