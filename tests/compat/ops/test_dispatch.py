import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

dispatch = import_module("mmplugins.compat.ops.dispatch")
PACKAGE = Path(dispatch.__file__).parent


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
def test_loads_as_mmcv_ext_on_its_own():
    code = f"""
import importlib.util, sys, types
sys.modules["mmcv"] = types.ModuleType("mmcv")
spec = importlib.util.spec_from_file_location(
    "mmcv._ext", {str(PACKAGE / "__init__.py")!r},
    submodule_search_locations=[{str(PACKAGE)!r}])
ext = sys.modules["mmcv._ext"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ext)
import torch
assert not any(name.split(".")[0] in ("mmplugins", "mmengine") for name in sys.modules)
boxes = torch.tensor([[0., 0, 4, 4], [1, 0, 5, 4], [9, 9, 12, 12]])
kept = ext.nms(boxes, torch.tensor([.5, .9, .7]), iou_threshold=.5, offset=0)
assert kept.tolist() == [1, 2], kept
assert ext.nms.__module__ == "mmcv._ext.suppression"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
