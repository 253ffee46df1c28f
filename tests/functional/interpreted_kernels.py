"""Run by test_triton_kernels.py in a process of its own, in which Triton interprets on the CPU.

Prints one line per kernel, layout and precision: what was compared, and the largest difference to
the plain formula in float64, relative to its largest value.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from mmplugins.functional import triton_kernels as kernels


def report(label: str, actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    error = (actual.double() - expected).abs().max() / expected.abs().max()
    sys.stdout.write(f"{label} {error:.3e}\n")


def main() -> None:
    torch.manual_seed(0)
    scale, bias = torch.tensor([0.8]), torch.tensor([-0.4])
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            label = f"{str(dtype)[6:]}-{str(layout)[6:]}"
            x, branch = (
                torch.randn(2, 5, 17, 13).to(dtype).contiguous(memory_format=layout)
                for _ in range(2)
            )
            wide, wide_branch = x.double(), branch.double()
            rectified = wide.clamp(min=0)

            y = kernels.star_relu(x, scale, bias)
            assert y.dtype == torch.float32 and y.stride() == x.stride()
            report(f"star_relu-{label}", y, 0.8 * rectified**2 - 0.4)

            grads = kernels.star_relu_backward(branch, x, scale, bias)
            report(f"star_relu_grad_x-{label}", grads[0], 1.6 * wide_branch * rectified)
            expected = (wide_branch * rectified**2).sum().view(1)
            report(f"star_relu_grad_scale-{label}", grads[1], expected)
            report(f"star_relu_grad_bias-{label}", grads[2], wide_branch.sum().view(1))

            a, b = torch.rand(5), torch.rand(5)
            keep = torch.tensor([0.0, 1.25]).view(2, 1, 1, 1)
            by_channel = a.view(5, 1, 1).double(), b.view(5, 1, 1).double()
            for name, x_scale, factor, expected in [
                ("both", a, b.view(5, 1, 1) * keep, by_channel[0] * wide
                 + by_channel[1] * keep.double() * wide_branch),
                ("x", a, None, by_channel[0] * wide + wide_branch),
                ("branch", None, b.view(5, 1, 1), wide + by_channel[1] * wide_branch),
                ("keep", None, keep, wide + keep.double() * wide_branch),
            ]:  # fmt: skip
                y = kernels.scaled_sum(x, branch, x_scale, factor)
                report(f"scaled_sum_{name}-{label}", y, expected)

            shifted = (x + 100).contiguous(memory_format=layout)  # digits would be lost naively
            mean, rstd = kernels.image_statistics(shifted, 1e-5)
            variance = shifted.double().var((1, 2, 3), correction=0, keepdim=True)
            expected = shifted.double().mean((1, 2, 3), keepdim=True)
            report(f"mean-{label}", mean, expected)
            report(f"rstd-{label}", rstd, (variance + 1e-5).rsqrt())


if __name__ == "__main__":
    main()
