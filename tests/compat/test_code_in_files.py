"""Text in checkpoints and configs that would run as Python, given the chance."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmplugins
from mmplugins.backbones.layers import build_act, build_norm
from mmplugins.backbones.token_mixers import build_token_mixer
from mmplugins.checkpoint import CheckpointError, read_checkpoint
from mmplugins.checkpoint.config_text import registered_only
from mmplugins.distillation.teacher import build_teacher
from mmplugins.engine import SettingError, train

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from random_training import Killed, tiny  # noqa: E402
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


def test_the_text_is_read_as_data_beside_an_empty_config_too(tmp_path, spoilt):
    from mmdet.apis import DetInferencer

    (tmp_path / "empty.py").write_text("")
    content = dict(state_dict={}, meta={}, message_hub=dict(runtime_info=dict(cfg=payload(spoilt))))
    torch.save(content, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match="not plain data"):
        DetInferencer(str(tmp_path / "empty.py"), str(tmp_path / "hostile.pth"), device="cpu")
    assert not spoilt.exists()


@pytest.fixture
def evil(tmp_path, spoilt, monkeypatch) -> Path:
    """A folder in which a package and files of four kinds run as they are read."""
    (tmp_path / "evil").mkdir()
    for name in ("evil/__init__.py", "evil/registry.py", "evil.py"):
        (tmp_path / name).write_text(payload(spoilt))
    (tmp_path / "evil.yaml").write_text(f"!!python/object/apply:open ['{spoilt}', 'w']")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Opens(str(spoilt))))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


class Opens:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_only_registered_classes_are_built(evil, spoilt):
    from mmdet.models import RetinaNet

    with registered_only():
        for build in (build_norm, build_act, build_token_mixer):
            with pytest.raises(ValueError, match=r"Unknown .* 'evil\.Thing'"):
                build(*["evil.Thing", 8][: 1 if build is build_act else 2])
        with pytest.raises(KeyError, match="not in the"):
            MODELS.build(dict(type="evil.Thing"))
        for name in ("evil.pkl", "evil.yaml"):
            with pytest.raises(CheckpointError, match="runs as it is read"):
                mmengine.load(str(evil / name))
        with pytest.raises(CheckpointError, match="runs as it is read"):
            build_teacher(str(evil / "evil.py"))
        assert MODELS.get("mmdet.models.RetinaNet") is RetinaNet
        assert MODELS.get("mmdet.models.detectors.retinanet.RetinaNet") is RetinaNet
        with pytest.raises(KeyError, match="not in the"):
            MODELS.build(dict(type="mmengine.fileio.remove"))
    assert not spoilt.exists()
    assert MODELS.get("pathlib.Path") is Path and mmengine.load(str(evil / "evil.pkl"))
    Config.fromfile(evil / "evil.py")
    assert spoilt.exists()


CHANGES = {
    "backbone.norm1": "evil.Thing",
    "backbone.token_mixers": ["evil.Thing"] * 4,
    "decode_head.loss_decode.class_weight": "evil.pkl",
    "decode_head.loss_decode": dict(type="CrossEntropyLoss", class_weight="evil.yaml"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_settings_that_would_run(evil, spoilt, monkeypatch, change):
    from mmseg.apis import MMSegInferencer

    monkeypatch.chdir(evil)
    cfg = tiny("segmentation", evil, evil / "work", **{f"model.{change}": CHANGES[change]})
    text = cfg.pretty_text
    content = dict(state_dict=dict(a=torch.ones(1)), meta=dict(cfg=text))
    content["message_hub"] = dict(runtime_info=dict(cfg=text))
    torch.save(content, "hostile.pth")
    with pytest.raises((SettingError, CheckpointError)):
        mmplugins.load_model("hostile.pth", device="cpu")
    with pytest.raises((ValueError, CheckpointError)):
        MMSegInferencer(None, "hostile.pth", device="cpu")
    assert not spoilt.exists()


def test_inferencers_take_what_was_trained_here(evil, spoilt):
    """Of the data sets in others the innermost is asked, and nothing is written for pictures."""
    from mmdet.apis import DetInferencer

    cfg = tiny("detection", evil, evil / "work")
    with DefaultScope.overwrite_default_scope("mmdet"):
        state = MODELS.build(cfg.model).state_dict()
    inner = dict(type="BaseDetDataset", ann_file=str(evil / "evil.pkl"), pipeline=[])
    inner["pipeline"] = cfg.test_dataloader.dataset.pipeline
    wrapped = dict(type="ConcatDataset", datasets=[inner], pipeline=inner["pipeline"])
    writes = dict(type="LocalVisBackend", save_dir=str(spoilt))
    for dataset in (cfg.test_dataloader.dataset, wrapped):
        cfg.test_dataloader.dataset = dataset
        cfg.visualizer = dict(
            type="DetLocalVisualizer", vis_backends=[writes], save_dir=str(spoilt)
        )
        info = dict(cfg=cfg.pretty_text)
        meta = dict(dataset_meta=dict(classes=("a",) * 4, palette=[(0, 0, 0)] * 4))
        content = dict(state_dict=state, meta=meta, message_hub=dict(runtime_info=info))
        torch.save(content, evil / "own.pth")
        inferencer = DetInferencer(weights=str(evil / "own.pth"), device="cpu", show_progress=False)
        picture = np.zeros((64, 64, 3), np.uint8)
        assert "predictions" in inferencer(picture, out_dir=str(evil / "out"))
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
