"""``--backbone`` in the tools, and the config that ``tools/compose.py`` writes for others."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from mmplugins.engine import SettingError, load_composed

TINY = "dict(type='ConvFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)))"


def test_the_written_config_is_the_composed_one(detection, call, tmp_path, capsys):
    out = tmp_path / "new" / "own.py"
    call("compose", detection, "--backbone", TINY, "--out", out, "--cfg-options", "load_from=a.pth")
    assert str(out) in capsys.readouterr().out
    written = Config.fromfile(out)
    composed = load_composed(detection, TINY, {"load_from": "a.pth"})
    assert written.to_dict() == composed.to_dict()
    assert written.model.neck.in_channels == [16, 32, 64] and "\n_base_" not in out.read_text()
    with MODELS.switch_scope_and_registry("mmdet") as models:
        assert type(models.build(written.model).backbone).__name__ == "ConvFormer"
    with pytest.raises(SettingError, match="exists, and nothing is overwritten"):
        call("compose", detection, "--backbone", TINY, "--out", out)


def test_the_printed_config_is_one(segmentation, call, tmp_path, capsys):
    call("compose", segmentation, "--backbone", "timm/resnet18")
    (tmp_path / "printed.py").write_text(capsys.readouterr().out)
    printed = Config.fromfile(tmp_path / "printed.py")
    assert printed.to_dict() == load_composed(segmentation, "timm/resnet18").to_dict()
    assert printed.model.decode_head.in_channels == 512


@pytest.mark.slow
def test_train_and_test_with_another_backbone(segmentation, call, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("train", segmentation, "--backbone", TINY)
    (checkpoint,) = tmp_path.glob("work_dirs/tiny_segmentation_convformer/iter_*.pth")
    capsys.readouterr()
    call("test", segmentation, checkpoint, "--backbone", TINY)
    assert "mIoU" in capsys.readouterr().out


@pytest.mark.parametrize("tool", ["compose", "train"])
def test_an_unknown_name_is_refused(tool, detection, call):
    with pytest.raises(SettingError, match="Unknown backbone 'caformer_s17'"):
        call(tool, detection, "--backbone", "caformer_s17")
