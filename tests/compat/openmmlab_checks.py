"""Things that OpenMMLab must be able to do, run by test_patches.py in a Python of its own.

``python openmmlab_checks.py FOLDER [late]`` prints ``{check: "ok" or the error}`` as JSON.
With ``late``, OpenMMLab is imported before mmplugins puts its patches in force.
"""

import atexit
import json
import os
import pkgutil
import sys
import tempfile
import warnings
from pathlib import Path

# Two modules that are gone from newer setuptools and Python, whatever versions run this.
sys.modules["pkg_resources"] = None
FIND_LOADER = vars(pkgutil).pop("find_loader", None)

CHECKS = []


def check(function):
    """Add a function to the list that is run; it gets the folder to write in."""
    CHECKS.append(function)
    return function


def tiny_runner(folder, **more):
    """Return a Runner for one linear layer and three steps, with mmengine's default hooks."""
    import torch
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    class Tiny(BaseModel):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, inputs, mode="tensor"):
            loss = self.layer(torch.stack(inputs)).square().mean()
            return {"loss": loss} if mode == "loss" else loss

    return Runner(
        model=Tiny(),
        work_dir=str(folder),
        train_dataloader={
            "dataset": [{"inputs": torch.ones(2)}] * 3,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "batch_size": 1,
        },
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        param_scheduler={"type": "LinearLR", "start_factor": 0.1, "end": 3, "by_epoch": False},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
        log_level="ERROR",
        experiment_name=Path(folder).name,
        **more,
    )


@check
def full_mmcv_is_seen(folder):
    from mmcv.utils.ext_loader import check_ops_exist
    from mmengine.utils.dl_utils import mmcv_full_available

    try:
        assert mmcv_full_available() and check_ops_exist()
    finally:
        if FIND_LOADER:  # so that without patches the other checks show their own faults
            pkgutil.find_loader = FIND_LOADER


@check
def base_config_of_mmdet(folder):
    from mmengine.config import Config

    (folder / "det.py").write_text("_base_ = 'mmdet::_base_/default_runtime.py'")
    assert Config.fromfile(folder / "det.py").default_scope == "mmdet"


@check
def base_config_of_mmseg(folder):
    from mmengine.config import Config

    (folder / "seg.py").write_text("_base_ = 'mmseg::_base_/default_runtime.py'")
    assert Config.fromfile(folder / "seg.py").default_scope == "mmseg"


@check
def installed_packages(folder):
    from mmengine.utils import get_installed_path, is_installed

    assert is_installed("mmengine") and not is_installed("no_such_package")
    assert (Path(get_installed_path("mmdet")) / ".mim" / "configs").is_dir()
    distribution = "mmsegmentation" if is_installed("mmsegmentation") else "onedl-mmsegmentation"
    assert Path(get_installed_path(distribution)).name == "mmseg"


@check
def resume(folder):
    first = tiny_runner(folder / "run")
    first.train()
    second = tiny_runner(folder / "run", resume=True)
    second.load_or_resume()
    assert second.iter == 3
    before, after = (
        runner.message_hub.get_scalar("train/loss").data[0] for runner in (first, second)
    )
    assert len(after) == 3 and (before == after).all()


@check
def checkpoint_cannot_run_code(folder):
    from mmengine.runner.checkpoint import load_from_local

    refuses(load_from_local, hostile(folder), folder)


@check
def download_cannot_run_code(folder):
    from mmengine.runner.checkpoint import load_from_http

    file = hostile(folder)

    def load(path, map_location):  # the file lies where the download would go: no network
        return load_from_http(f"http://localhost/{file.name}", map_location, str(folder))

    refuses(load, file, folder)


def hostile(folder):
    """Save a checkpoint that makes a folder when its pickle is run."""
    import torch

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(folder / "code_ran"),)

    torch.save({"state_dict": {}, "meta": Hostile()}, folder / "hostile.pth")
    return folder / "hostile.pth"


def refuses(load, file, folder):
    """Assert that loading fails and runs nothing."""
    from pickle import UnpicklingError

    refused = False
    try:
        load(str(file), "cpu")
    except UnpicklingError:
        refused = True
    if (folder / "code_ran").exists():
        (folder / "code_ran").rmdir()
        raise AssertionError("the checkpoint ran its code")
    assert refused, "the checkpoint was read"


@check
def amp(folder):
    import torch
    from mmengine.optim import AmpOptimWrapper

    layer = torch.nn.Linear(4, 4)
    before = layer.weight.detach().clone()
    wrapper = AmpOptimWrapper(
        loss_scale="dynamic",
        optimizer=torch.optim.SGD(layer.parameters(), lr=0.1),
        clip_grad={"max_norm": 1.0},
    )
    with wrapper.optim_context(layer):
        output = layer(torch.ones(2, 4))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().square().mean())
    assert not torch.equal(before, layer.weight) and layer.weight.dtype == torch.float32
    wrapper.load_state_dict(wrapper.state_dict())


@check
def half_precision(folder):
    import torch
    from mmengine.optim import AmpOptimWrapper
    from mmengine.runner import autocast

    layer = torch.nn.Linear(4, 4)
    with autocast(dtype=torch.float16):
        assert layer(torch.ones(2, 4)).dtype == torch.float16
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    wrapper = AmpOptimWrapper(dtype="float16", optimizer=optimizer)
    assert float(wrapper.loss_scaler.scale(torch.ones(()))) > 1
    before = layer.weight.detach().clone()
    with wrapper.optim_context(layer):
        output = layer(torch.ones(2, 4))
    wrapper.update_params(output.float().square().mean())
    assert not torch.equal(before, layer.weight) and layer.weight.isfinite().all()


@check
def flops_of_given_inputs(folder):
    import torch
    from mmengine.analysis import get_model_complexity_info

    layer = torch.nn.Linear(8, 4, bias=False)
    found = get_model_complexity_info(
        layer, (8,), inputs=(torch.ones(1, 8),), show_table=False, show_arch=False
    )
    assert found["flops"] == 32


@check
def launcher(folder):
    from mmengine.dist import get_backend, init_dist

    init_dist("pytorch")
    assert get_backend() == "gloo"


@check
def distributed_model(folder):
    import torch
    from mmengine.dist import init_dist
    from mmengine.model import MMDistributedDataParallel

    if not torch.distributed.is_initialized():  # the launcher has failed
        torch.cuda.set_device = lambda device: None
        init_dist("pytorch", backend="gloo")
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.SyncBatchNorm(2))
    wrapped = MMDistributedDataParallel(module=model, device_ids=[0])
    wrapped.hooks = [wrapped]  # a circle, as the runner and its hooks are
    wrapped(torch.randn(2, 1, 4, 4)).mean().backward()
    assert not any(isinstance(one, torch.nn.SyncBatchNorm) for one in wrapped.modules())


@check
def base_config_of_mmplugins(folder):
    """As a base of another config and by its name; its parts are found in mmdet's registries."""
    from mmengine.config import Config
    from mmengine.hub import get_config

    name = "mmplugins::retinanet/retinanet_shapes.py"
    (folder / "own.py").write_text(f"_base_ = {name!r}\n")
    for config in (Config.fromfile(folder / "own.py"), get_config(name)):
        assert config.model.type == "RetinaNet" and "_scope_" not in config.model
        assert config.default_scope == "mmdet"


@check
def bare_state_dict(folder):
    """``init_model`` of mmseg reads the ``meta`` of what was loaded."""
    import torch
    from mmengine.runner import load_checkpoint

    torch.save({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, folder / "bare.pth")
    layer = torch.nn.Linear(2, 1)
    assert load_checkpoint(layer, str(folder / "bare.pth"))["meta"] == {}
    assert layer.weight.eq(1).all()


def main():
    """Run every check, and the one that can only be seen at exit."""
    folder = Path(sys.argv[1])
    outcome = {}

    def report():  # registered first, hence run last
        from torch import distributed

        tasks = Path("/proc/self/task")  # Linux only
        threads = [(task / "comm").read_text().strip() for task in tasks.glob("*")]
        left = distributed.is_initialized() or any("gloo" in name for name in threads)
        outcome["process_group_at_exit"] = f"the group is left: {threads}" if left else "ok"
        (folder / "outcome.json").write_text(json.dumps(outcome))

    atexit.register(report)
    if "late" in sys.argv:
        import mmcv.utils.ext_loader  # noqa: F401
        import mmengine.analysis
        import mmengine.hub
        import mmengine.runner  # noqa: F401
        import mmplugins_hook

        mmplugins_hook.put_compat_in_force()
    for function in CHECKS:
        place = Path(tempfile.mkdtemp(dir=folder))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(place)
            outcome[function.__name__] = "ok"
        except Exception as error:
            outcome[function.__name__] = f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
