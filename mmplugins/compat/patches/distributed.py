"""Several processes on CPUs: mmengine's launchers and wrappers take a GPU for granted."""

import atexit
import contextlib
import functools
import gc
import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .patch import patch, rebind, replaced


def _destroy_process_group() -> None:
    from torch import distributed

    if distributed.is_initialized():
        # The runner and its hooks hold each other, and the runner the model, which holds the
        # group: uncollected, they would keep gloo's threads alive after all.
        gc.collect()
        distributed.destroy_process_group()


@patch("mmengine.dist.utils", needed=lambda module: True)
def processes_on_cpu(module: ModuleType) -> None:
    """Four faults of ``--launcher pytorch`` (slurm, mpi) on a machine without a GPU.

    ``integer modulo by zero``: that of slurm divides tasks among GPUs.
    ``Found no NVIDIA driver``: the launchers call ``torch.cuda.set_device`` unasked.
    The default backend, nccl, has no CPU side: gloo takes its place, with a warning.
    ``terminate called without an active exception`` at exit, now and then: gloo's threads
    outlive the interpreter unless the process group is destroyed first.
    """
    original = module.init_dist

    @functools.wraps(original)
    def init_dist(launcher, backend="nccl", *args, **kwargs):
        torch = module.torch
        no_gpu = contextlib.ExitStack()
        if not torch.cuda.is_available():
            no_gpu.enter_context(replaced(torch.cuda, "set_device", lambda device: None))
            no_gpu.enter_context(replaced(torch.cuda, "device_count", lambda: 1))
            if backend == "nccl":
                warnings.warn("No CUDA device: the backend is gloo instead of nccl.", stacklevel=2)
                backend = "gloo"
        with no_gpu:
            original(launcher, backend, *args, **kwargs)
        if module.get_backend() == "gloo":
            atexit.register(_destroy_process_group)

    rebind(module, "init_dist", init_dist)


@patch("mmengine.model.wrappers.distributed", needed=lambda module: True)
def distributed_model_on_cpu(module: ModuleType) -> None:
    """Two faults of distributed training where the model is on a CPU.

    ``device_ids ... CPU``: the runner passes ``device_ids=[LOCAL_RANK]`` always.
    ``SyncBatchNorm expected input tensor to be on GPU``: plain batch norm takes its place, as
    mmengine does in one process; its statistics are then those of each process.
    """
    wrapper = module.MMDistributedDataParallel
    original = wrapper.__init__

    @functools.wraps(original)
    def __init__(self, module, *args, **kwargs):
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            kwargs["device_ids"] = None
            if any(type(layer).__name__ == "SyncBatchNorm" for layer in module.modules()):
                from mmengine.model.utils import revert_sync_batchnorm

                warnings.warn(
                    "SyncBatchNorm needs a GPU: batch statistics are per process.", stacklevel=2
                )
                module = revert_sync_batchnorm(module)
        original(self, module, *args, **kwargs)

    wrapper.__init__ = __init__


@patch("mmdet.models.dense_heads.anchor_head", needed=lambda module: True)
def positives_of_all_processes(module: ModuleType) -> None:
    """Losses of ``AnchorHead`` (RetinaNet, SSD) depend on how pictures are dealt out to processes.

    Each process divides by its own number of positives, where ``FCOS``, ``ATSS`` and others of
    mmdet divide by the mean over processes. Here that mean is taken, too: two processes are then
    one with twice the batch.
    """
    _divide_by_mean(module.AnchorHead, place=4)


@patch("mmdet.models.dense_heads.reppoints_head", needed=lambda module: True)
def points_of_all_processes(module: ModuleType) -> None:
    """As :func:`positives_of_all_processes`, for RepPoints."""
    _divide_by_mean(module.RepPointsHead, place=5)


def _divide_by_mean(head: Any, place: int) -> None:
    """Let the number that ``get_targets`` of a head returns at a place be the processes' mean."""
    original = head.get_targets

    @functools.wraps(original)
    def get_targets(self, *args, **kwargs):
        from mmengine.dist import all_reduce, get_world_size

        found = original(self, *args, **kwargs)
        if found is None or get_world_size() == 1:
            return found
        torch = importlib.import_module("torch")
        mean = torch.tensor(float(found[place]), device=found[0][0].device)
        all_reduce(mean, "mean")
        return (*found[:place], max(float(mean), 1.0), *found[place + 1 :])

    head.get_targets = get_targets


@patch("mmengine.model.utils", needed=lambda module: True)
def activations_of_norms(module: ModuleType) -> None:
    """``sync_bn``, and its way back, lose the activation of timm's ``BatchNormAct2d``.

    A norm class of timm may apply a dropout and an activation, its children. mmengine puts a plain
    norm in its place: the children stay, and nothing calls them. Here the new norm calls them.
    """
    for name in ("convert_sync_batchnorm", "revert_sync_batchnorm"):
        rebind(module, name, _with_activation(getattr(module, name)))


def _with_activation(original: Callable) -> Callable:
    @functools.wraps(original)
    def exchange(module, *args, **kwargs):
        new = original(module, *args, **kwargs)
        # Only a norm is exchanged for another module; containers come back themselves.
        if new is not module and hasattr(module, "act"):
            new.__class__ = _activating(type(new))
        return new

    return exchange


@functools.cache
def _activating(norm: type) -> type:
    """A norm class that goes on with the children ``drop`` and ``act``, those that it has."""

    def forward(self, x):
        x = norm.forward(self, x)
        for name in ("drop", "act"):
            x = getattr(self, name, _same)(x)
        return x

    # The same name: what looks for SyncBatchNorm by name finds it.
    return type(norm.__name__, (norm,), {"forward": forward, "__module__": norm.__module__})


def _same(x):
    return x
