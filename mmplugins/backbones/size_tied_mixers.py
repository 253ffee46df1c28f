"""Token mixers with one weight per pair of positions: they carry the training feature map's size.

Each takes the ``side`` of its feature map at the training size (56, 28, 14, 7 for stages 0 to 3 at
224 pixels) and a ``policy`` for all other sizes, see :mod:`.size_policy`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .folding import absorb_batch_norm
from .size_policy import (
    DEFAULT_POLICY,
    SizePolicy,
    check_size_policy,
    mix_grid,
    mix_lines,
)
from .token_mixers import TOKEN_MIXERS


@TOKEN_MIXERS.register_module()
class RandomMixing(nn.Module):
    """One frozen random matrix over all positions, the same for every channel (RandFormer).

    MetaFormer Baselines, section 3.1. Each row is a softmax of uniform numbers from [0, 1), so a
    position becomes an average of all positions with slightly uneven weights. The matrix is part
    of the state dict but is never trained.

    Args:
        dim: Number of channels (the mixing works for any).
        side: Height and width of the feature map at the training size, in positions.
        policy: What happens at other sizes. Defaults to ``'resample'``.

    Raises:
        ValueError: If ``side`` is no positive int or ``policy`` is unknown.
    """

    channelwise = True

    def __init__(self, dim: int, side: int, policy: SizePolicy = DEFAULT_POLICY):
        super().__init__()
        check_size_policy(side, policy)
        self.side, self.policy = side, policy
        self.random_matrix = nn.Parameter(
            torch.rand(side**2, side**2).softmax(dim=-1), requires_grad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        return mix_grid(x, self.random_matrix, self.side, self.policy)

    def extra_repr(self) -> str:
        """Show side and policy in the printed model."""
        return f"side={self.side}, policy={self.policy!r}"


@TOKEN_MIXERS.register_module()
class SpatialFC(nn.Module):
    """One learnt matrix over all positions, the same for every channel, without bias.

    The spatial fully connected layer of PoolFormer's ablation (Table 5), after ResMLP.

    Args:
        dim: Number of channels (the mixing works for any).
        side: Height and width of the feature map at the training size, in positions.
        policy: What happens at other sizes. Defaults to ``'resample'``.

    Raises:
        ValueError: If ``side`` is no positive int or ``policy`` is unknown.
    """

    channelwise = True

    def __init__(self, dim: int, side: int, policy: SizePolicy = DEFAULT_POLICY):
        super().__init__()
        check_size_policy(side, policy)
        self.side, self.policy = side, policy
        self.fc = nn.Linear(side**2, side**2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        return mix_grid(x, self.fc.weight, self.side, self.policy)

    def extra_repr(self) -> str:
        """Show side and policy in the printed model."""
        return f"side={self.side}, policy={self.policy!r}"


@TOKEN_MIXERS.register_module()
class SparseMLP(nn.Module):
    """Depthwise convolution, then one matrix along the rows and one along the columns (sMLPNet).

    With z = GELU(BN(depthwise(GELU(BN(x))))), the mixer returns a pointwise convolution of z, z
    mixed along its rows, and z mixed along its columns, concatenated in this order. It brings its
    own norms, so that the block needs none before it. Rows and columns are the only parts tied to
    a size, and a window of theirs is a stretch of one row or column.

    Args:
        dim: Number of channels.
        side: Height and width of the feature map at the training size, in positions.
        policy: What happens at other sizes. Defaults to ``'resample'``.

    Raises:
        ValueError: If ``side`` is no positive int or ``policy`` is unknown.
    """

    linear_ends = (None, "fuse")

    def __init__(self, dim: int, side: int, policy: SizePolicy = DEFAULT_POLICY):
        super().__init__()
        check_size_policy(side, policy)
        self.policy = policy
        self.norm1 = nn.BatchNorm2d(dim)
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm2 = nn.BatchNorm2d(dim)
        self.row = nn.Linear(side, side)
        self.column = nn.Linear(side, side)
        self.fuse = nn.Conv2d(3 * dim, dim, 1, bias=False)
        self.act1, self.act2 = nn.GELU(), nn.GELU()

    def switch_to_deploy(self) -> None:
        """Fold the second batch norm into the convolution before it."""
        self.norm2 = absorb_batch_norm(self.depthwise, self.norm2)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        x = self.depthwise(self.act1(self.norm1(x)))
        x = self.act2(self.norm2(x))
        rows = mix_lines(x, self.row.weight, self.row.bias, self.policy)
        columns = mix_lines(x.mT, self.column.weight, self.column.bias, self.policy).mT
        return self.fuse(torch.cat([x, rows, columns], dim=1))

    def extra_repr(self) -> str:
        """Show the policy in the printed model; the side is that of ``row`` and ``column``."""
        return f"policy={self.policy!r}"
