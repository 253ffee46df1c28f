"""Text in checkpoints and configs that would run as Python, given the chance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmplugins
from mmplugins.checkpoint import CheckpointError, read_checkpoint
from mmplugins.engine import train

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from random_training import Killed  # noqa: E402
from toy_training import toy  # noqa: E402


@pytest.fixture
def spoilt(tmp_path):
    """A file that no text may make."""
    return tmp_path / "spoilt"


def payload(spoilt: Path) -> str:
    return f"open({str(spoilt)!r}, 'w').close()"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    cfg = toy(tmp_path / "work")
    cfg.custom_hooks = [dict(type="KillHook", after=5)]
    with pytest.raises(Killed):
        train(cfg)
    return tmp_path / "work/iter_3.pth"


@pytest.mark.parametrize("named", [True, False])
def test_resume_runs_no_config(tmp_path, checkpoint, spoilt, named):
    content = read_checkpoint(checkpoint)
    text = f"import os\nx = {payload(spoilt)}\n"
    content["meta"].update(config=text, cfg=text)
    content["message_hub"]["runtime_info"]["cfg"] = text
    torch.save(content, checkpoint)
    cfg = toy(tmp_path / "work", resume=True, load_from=str(checkpoint) if named else None)
    train(cfg)
    assert (tmp_path / "work/iter_12.pth").is_file() and not spoilt.exists()


@pytest.mark.parametrize(
    "text",
    [
        "x = {payload}",
        "import os",
        "default_scope = 'mmdet'\nmodel = dict(type='os.system', command='touch {spoilt}')",
        "default_scope = 'mmdet'\nmodel = dict(type='mmengine.fileio.remove', filepath='{spoilt}')",
        "default_scope = 'evil'\nmodel = dict(type='RetinaNet')",
        "model = dict(type='RetinaNet', backbone=dict(type='FPN', _scope_='evil'))",
        "model = dict(type='RetinaNet', test_cfg=dict(nms=dict(type=\"{payload}\")))",
        "model = dict(type='CameraMotionCompensation', warp_mode='1')",
    ],
)
def test_inferencers_run_no_config(tmp_path, spoilt, text):
    from mmdet.apis import DetInferencer

    text = text.replace("{payload}", payload(spoilt)).replace("{spoilt}", str(spoilt))
    info = dict(cfg=text)
    content = dict(state_dict={}, meta=dict(cfg=text), message_hub=dict(runtime_info=info))
    torch.save(content, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="not plain data|do not have"):
        DetInferencer(weights=str(tmp_path / "hostile.pth"), device="cpu")
    assert not spoilt.exists()


def test_a_users_own_text_is_still_a_program():
    assert Config.fromstring("x = 1 + 1", ".py").x == 2


def test_names_instead_of_eval(spoilt):
    from mmcv.ops import nms as module_or_function
    from mmdet.models.task_modules.tracking import CameraMotionCompensation

    module = sys.modules["mmcv.ops.nms"]
    assert module.eval("soft_nms") is module.soft_nms and module_or_function is not None
    boxes, scores = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0.5])
    found, _ = module.batched_nms(boxes, scores, torch.zeros(1), dict(type="nms", iou_threshold=1))
    assert found.shape == (1, 5)
    with pytest.raises(ValueError, match="names nothing"):
        module.batched_nms(boxes, scores, torch.zeros(1), dict(type=payload(spoilt)))
    assert CameraMotionCompensation("cv2.MOTION_AFFINE").warp_mode == 2
    with pytest.raises(ValueError, match="names nothing"):
        CameraMotionCompensation(payload(spoilt))
    assert not spoilt.exists() and mmplugins.__version__
