"""Configs that users have: what mmengine takes is taken, and nothing unread is claimed."""

from __future__ import annotations

import json
import shutil

import pytest
from breaking import changed, faults, point_at
from mmseg.models import SegDataPreProcessor
from PIL import Image


@pytest.fixture
def own(healthy, shapes, tmp_path):
    """A copy of the data, and the healthy configs pointed there."""
    root = shutil.copytree(shapes, tmp_path / "own")

    def config(name, changes):
        cfg = changed(healthy[name], changes)
        point_at(cfg, root)
        return cfg

    return root, config


def takes_four_means() -> bool:
    """Whether this mmseg subtracts more than three means; that of the onedl line does not."""
    try:
        SegDataPreProcessor(mean=[1, 2, 3, 4], std=[1, 1, 1, 1])
    except AssertionError:
        return False
    return True


def test_pictures_of_four_channels(own):
    root, config = own
    for path in (root / "images").rglob("*.jpg"):
        Image.open(path).convert("RGBA").save(path, format="PNG")
    changes = {
        "model.backbone.in_channels": 4,
        "model.data_preprocessor.mean": [120, 116, 104, 100],
        "model.data_preprocessor.std": [58, 57, 57, 60],
        "model.data_preprocessor.bgr_to_rgb": False,
    }
    for split in ("train", "val", "test"):
        changes[f"{split}_dataloader.dataset.pipeline[0].color_type"] = "unchanged"
    found = faults(config("semantic_fpn", changes))
    if takes_four_means():
        assert found == []
    else:
        (refused,) = found
        assert "mean: is [120, 116, 104, 100]" in refused.message
        assert "1 or 3 values" in refused.message
    changes["model.data_preprocessor.mean"] = [120, 116, 104]
    changes["model.data_preprocessor.std"] = [58, 57, 57]
    (found,) = faults(config("semantic_fpn", changes))
    assert "mean: has 3 values, [120, 116, 104], but pictures have 4 channels" in found.message


def test_grey_pictures_with_means_of_colours(own):
    _, config = own
    changes = {"train_dataloader.dataset.pipeline[0].color_type": "grayscale"}
    (found,) = faults(config("retinanet", changes))
    assert found.status == "failure"
    assert "data_preprocessor.mean: has 3 values" in found.message
    assert "pictures have 1 channels" in found.message and "bgr_to_rgb=False" in found.message


def test_a_size_in_quotes(own):
    _, config = own
    changes = {"train_dataloader.dataset.pipeline[2].scale": ("128", "128")}
    (found,) = faults(config("retinanet", changes))
    assert "pipeline[2].scale[0]: is '128', a text: expected numbers" in found.message


def test_a_metric_that_writes_a_file(own, tmp_path, monkeypatch):
    root, config = own
    monkeypatch.chdir(tmp_path)
    cfg = config("retinanet", {})
    dump = dict(type="DumpDetResults", out_file_path="found.pkl")
    cfg.val_evaluator = dict(type="Evaluator", metrics=[dict(cfg.val_evaluator), dump])
    assert faults(cfg) == []
    assert not (tmp_path / "found.pkl").exists()


def with_classes(value):
    """A config with classes in place of names, as mmengine's new style has it."""
    import mmengine.registry as registries

    if isinstance(value, dict):
        value = {key: with_classes(inner) for key, inner in value.items()}
        kind = value.get("type")
        for registry in vars(registries).values():
            if isinstance(kind, str) and isinstance(registry, registries.Registry):
                with registry.switch_scope_and_registry("mmdet") as scoped:
                    found = scoped.get(kind)
                if found is not None:
                    return {**value, "type": found}
        return value
    many = isinstance(value, list | tuple)
    return type(value)(with_classes(v) for v in value) if many else value


def test_configs_of_the_new_style(own):
    root, config = own
    cfg = config("retinanet", {})
    cfg.model.neck.setdefault("type", "FPN")
    for key, value in cfg.to_dict().items():
        if key not in ("model", "env_cfg", "train_cfg", "val_cfg", "test_cfg"):
            cfg[key] = with_classes(value)
    model = with_classes({k: v for k, v in cfg.model.to_dict().items() if k != "test_cfg"})
    cfg.model = dict(model, test_cfg=cfg.model.test_cfg)
    cfg.default_scope = None
    assert [str(r) for r in faults(cfg)] == []
    path = root / "images/training/train_00003.jpg"
    path.write_bytes(b"broken")
    (found,) = faults(cfg, full=True)
    assert "train_00003.jpg (6 bytes) cannot be decoded" in found.message


def test_nothing_is_claimed_that_was_not_read(own):
    from mmplugins.checks import preflight

    _, config = own
    said = {r.name: r.message for r in preflight(config("retinanet", {}))}
    assert "train_dataloader.dataset: 12 of 12 pictures read" in said["data"]


def test_a_validation_without_annotations(own):
    root, config = own
    path = root / "annotations/instances_val.json"
    data = json.loads(path.read_text())
    del data["annotations"]
    path.write_text(json.dumps(data))
    found = faults(config("retinanet", {}))
    assert any("has no annotations: predictions only, no figures" in r.message for r in found)
