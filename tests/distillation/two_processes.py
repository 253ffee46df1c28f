"""What each process of a distributed test runs; in a module that a new process can import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from small_pairs import batch, distiller, model_config, with_batch_norm

import mmplugins  # noqa: F401 - before anything of OpenMMLab runs


def run_processes(function: Callable[[int, str, int], None], folder: Path, count: int) -> list:
    """What processes of a group leave behind, by rank; a single one is this process."""
    if count == 1:
        function(0, str(folder), 1)
    else:
        torch.multiprocessing.start_processes(
            function, (str(folder), count), nprocs=count, start_method="spawn"
        )
    return [torch.load(folder / f"rank{rank}.pth") for rank in range(count)]


def one_process(rank: int, folder: str, count: int) -> None:
    """A step in one of some processes; what it sees goes to a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", world_size=count, rank=rank)
    arch = dict(depths=(1, 1, 2, 1), dims=(16, 16, 24, 32))
    task = "semantic-fpn"
    model = distiller(
        task,
        dict(mixer=dict(weight=0.0), pixel_scores={}),  # a weight of 0 leaves no projection out
        teacher=model_config(task, "PoolFormer", arch=arch),
        seed=rank,
    )
    own_teacher = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    wrapped = MMDistributedDataParallel(model, device_ids=[0])
    losses = wrapped(*batch(task, seed=rank), mode="loss")
    model.parse_losses(losses)[0].backward()
    same = all(torch.equal(v, own_teacher[k]) for k, v in model.teacher.state_dict().items())
    gradients = {name: p.grad for name, p in model.named_parameters()}
    torch.save(dict(gradients=gradients, same=same), f"{folder}/rank{rank}.pth")
    dist.destroy_process_group()


def one_sharing_process(rank: int, folder: str, count: int) -> None:
    """Two steps in one of some processes, the student's head being the teacher's.

    All read the teacher from a file, as trainings do; their students start differently, until DDP
    gives all the first one's.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", world_size=count, rank=rank)
    task, share = "semantic-fpn", ("neck", "decode_head")
    model = distiller(
        task,
        student=with_batch_norm(task, "RIFormer"),
        teacher=with_batch_norm(task, "PoolFormer"),
        teacher_checkpoint=f"{folder}/teacher.pth",
        share=share,
        seed=rank,
    )
    own_start = {k: v.clone() for k, v in model.student.backbone.state_dict().items()}
    wrapped = MMDistributedDataParallel(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for step in range(2):  # the second would fail if a parameter had waited in vain
        losses = wrapped(*batch(task, seed=2 * step + rank), mode="loss")
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimizer.step()
    gradients = {k: p.grad for k, p in model.student.named_parameters()}
    torch.save(
        dict(
            start=own_start,
            student=model.student.state_dict(),
            teacher=model.teacher.state_dict(),
            gradients=gradients,
        ),
        f"{folder}/rank{rank}.pth",
    )
    dist.destroy_process_group()
