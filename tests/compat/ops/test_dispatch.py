import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

dispatch = import_module("mmplugins.compat.ops.dispatch")
PACKAGE = Path(dispatch.__file__).parent


def test_torchvision_kernel_is_found_per_device():
    kernel = dispatch.torchvision_kernel("nms", torch.device("cpu"))
    assert kernel is torch.ops.torchvision.nms.default
    # Devices for which torchvision has no kernels, and a name that it does not have.
    assert dispatch.torchvision_kernel("nms", torch.device("xla")) is None
    assert dispatch.torchvision_kernel("no_such_operator", torch.device("cpu")) is None


def test_widen_gives_one_type_of_at_least_single_precision():
    half, brain, single, double = (
        torch.ones(2, dtype=d)
        for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    )
    assert [t.dtype for t in dispatch.widen(half, brain)] == [torch.float32] * 2
    assert [t.dtype for t in dispatch.widen(half, double)] == [torch.float64] * 2
    assert dispatch.widen(single)[0] is single


def test_extension_op_hides_from_autograd_and_keeps_its_name():
    @dispatch.extension_op
    def double(scale, tensor):
        """Say what it does."""
        return tensor * scale

    result = double(scale=2, tensor=torch.ones(1, requires_grad=True))
    assert not result.requires_grad
    assert double.__name__ == "double" and double.__doc__ == "Say what it does."


@pytest.mark.slow
def test_loads_as_mmcv_ext_on_its_own_and_without_torchvision():
    code = f"""
import importlib.util, sys, types
sys.modules["torchvision"] = None  # its import fails
sys.modules["mmcv"] = types.ModuleType("mmcv")
spec = importlib.util.spec_from_file_location(
    "mmcv._ext", {str(PACKAGE / "__init__.py")!r},
    submodule_search_locations=[{str(PACKAGE)!r}])
ext = sys.modules["mmcv._ext"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ext)
import torch
assert not any(name.split(".")[0] in ("mmplugins", "mmengine") for name in sys.modules)
assert ext.dispatch.torchvision_kernel("nms", torch.device("cpu")) is None
boxes = torch.tensor([[0., 0, 4, 4], [1, 0, 5, 4], [9, 9, 12, 12]])
kept = ext.nms(boxes, torch.tensor([.5, .9, .7]), iou_threshold=.5, offset=0)
assert kept.tolist() == [1, 2], kept
features, output, empty = torch.ones(1, 1, 6, 6), torch.zeros(1, 1, 2, 2), torch.zeros(0)
ext.roi_align_forward(features, torch.tensor([[0., 1, 1, 4, 4]]), output, empty, empty,
                      aligned_height=2, aligned_width=2, spatial_scale=1., sampling_ratio=0,
                      pool_mode=1, aligned=True)
assert torch.allclose(output, torch.ones(1, 1, 2, 2)), output
assert ext.nms.__module__ == "mmcv._ext.suppression"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
