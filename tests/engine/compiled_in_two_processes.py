"""Run by test_compiling.py in each of two processes: gradients of a compiled model under DDP."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from mmplugins.backbones import PoolFormer
from mmplugins.engine import compile_blocks

TINY = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))


def gradients(compiled: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = PoolFormer(TINY, layer_scale=1.0)
    wrapped = DistributedDataParallel(model)
    if compiled:
        compile_blocks(model, backend="aot_eager")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(dist.get_rank()))
    sum(out.square().mean() for out in wrapped(x)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def main() -> None:
    dist.init_process_group("gloo")
    eager, compiled = gradients(False), gradients(True)
    for name, grad in eager.items():
        torch.testing.assert_close(compiled[name], grad, rtol=1e-4, atol=1e-6, msg=name)
        first = compiled[name].clone()
        dist.broadcast(first, 0)  # both processes have the mean of both batches
        torch.testing.assert_close(compiled[name], first, rtol=0, atol=0, msg=name)
    dist.destroy_process_group()
    sys.stdout.write("the same gradients\n")


if __name__ == "__main__":
    main()
