"""What `import mmplugins` offers, and what it leaves alone until it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mmplugins

FORCED = "import mmengine.hooks, mmengine.optim, mmengine.runner, mmcv.cnn"
"""What registering hooks and backbones takes; mmengine's visualizer brings OpenCV, mmcv Pillow."""
LATER = {"benchmark", "checks", "datasets", "evaluation", "inference", "visualization"}


SCRIPT = f"""
import json, sys
{FORCED}
forced = list(sys.modules)
import mmplugins
print(json.dumps([forced, list(sys.modules)]))
"""


@pytest.fixture(scope="module")
def loaded() -> list[set[str]]:
    """Modules of a new Python that has what is forced on it, and after the import."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def distributions(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)


def test_import_brings_in_no_further_package(loaded):
    forced, after = loaded
    assert {"torch", "mmengine", "mmcv", "cv2"} <= distributions(forced)
    brought = distributions(after) - distributions(forced)
    assert "mmplugins.backbones" in after
    heavy = {"matplotlib", "pandas", "onnx", "onnxruntime", "openvino", "timm", "torchvision"}
    assert not brought & heavy


def test_import_leaves_the_tools_rooms_alone(loaded):
    rooms = {name.split(".")[1] for name in loaded[1] if name.startswith("mmplugins.")}
    assert {"backbones", "checkpoint", "engine"} <= rooms
    assert not rooms & LATER


def test_what_is_offered_is_there():
    assert len(mmplugins.__all__) == len(set(mmplugins.__all__))
    assert all(getattr(mmplugins, name) is not None for name in mmplugins.__all__)
    users = {"build_backbone", "list_backbones", "load_weights", "compose", "MetaFormer"}
    assert set(mmplugins.__all__) >= users | {"PyramidBackbone", "TOKEN_MIXERS", "__version__"}
