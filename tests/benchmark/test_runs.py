"""Runs of a protocol over sets in COCO's and ADE20K's format: names, configs, splits, starts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from mmplugins.benchmark.budget import Budget
from mmplugins.benchmark.protocol import DataSet, Protocol, ProtocolError
from mmplugins.benchmark.protocol_files import find_recipe
from mmplugins.benchmark.runs import (
    family_of_backbone,
    name_backbone,
    name_backbones,
    plan,
    run_config,
)
from mmplugins.benchmark.splits import pictures_in, split_of
from mmplugins.benchmark.trackers import prepare_tracker, use_tracker
from mmplugins.engine import SettingError

TINY = "tiny=dict(type='PoolFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))"


def coco(folder: Path) -> DataSet:
    """20 pictures of two classes, one of them in every fifth picture only."""
    folder.mkdir()
    images = [dict(id=i, file_name=f"{i}.jpg", width=64, height=64) for i in range(20)]
    boxes = [
        dict(id=2 * i + k, image_id=i, category_id=7 + k, bbox=[1, 1, 9, 9], area=81, iscrowd=0)
        for i in range(20)
        for k in range(2)
        if not k or i % 5 == 0
    ]
    categories = [dict(id=7, name="cat"), dict(id=8, name="dog")]
    content = dict(images=images, annotations=boxes, categories=categories)
    for split in ("train", "test"):
        (folder / f"{split}.json").write_text(json.dumps(content))
    return DataSet(
        "pets", find_recipe("mask_rcnn/mask-rcnn_1x_coco.py"), "coco", str(folder),
        train=dict(annotations="train.json", images="pictures"), val=dict(holdout=6),
        test=dict(annotations="test.json", images="pictures"),
        options={"train_dataloader.dataset.pipeline.2.scale": [64, 48]},
    )  # fmt: skip


def ade20k(folder: Path) -> DataSet:
    for split, count in (("training", 9), ("validation", 2)):
        (folder / f"labels/{split}").mkdir(parents=True)
        for i in range(count):
            (folder / f"labels/{split}/{i}.png").write_bytes(b"")
    (folder / "classes.txt").write_text("sky\nroad\n\n")
    return DataSet(
        "streets", find_recipe("upernet/upernet_160k_ade20k.py"), "ade20k", str(folder),
        train=dict(images="images/training", labels="labels/training"), val=dict(holdout=2),
        test=dict(images="images/validation", labels="labels/validation"), classes="classes.txt",
    )  # fmt: skip


BUDGET = Budget(4, batch=3)


def runs_of(out, one, backbone=TINY, budget=BUDGET, **changes):
    changes = dict(seeds=1, learning_rates=(1e-3, 1e-2)) | changes
    protocol = Protocol("p", sets=(one,), budget=budget, **changes)
    return plan(protocol, name_backbones([backbone]), out)


def test_names_of_backbones():
    assert name_backbone(TINY)[0] == "tiny" and name_backbone(TINY)[1].startswith("dict(")
    assert name_backbone("timm/resnet50") == ("timm/resnet50", "timm/resnet50")
    assert list(name_backbones(["a", TINY, "a"])) == ["a", "tiny"]
    with pytest.raises(SettingError, match="two backbones are called 'tiny'"):
        name_backbones([TINY, "tiny=dict(type='ResNet')"])
    with pytest.raises(SettingError, match="share the folder 'timm-a'"):
        name_backbones(["timm/a", "timm-a=dict(type='ResNet')"])
    assert family_of_backbone("timm/resnet50") == "resnet" and family_of_backbone("no") is None


def test_every_run_once_seed_by_seed(tmp_path):
    protocol = Protocol(
        "p", sets=(coco(tmp_path / "c"), ade20k(tmp_path / "a")), starts=("frozen", "random"),
        learning_rates=(1e-3, 1e-2), seeds=2,
    )  # fmt: skip
    runs = plan(protocol, name_backbones(["caformer_s18", "timm/resnet50"]), tmp_path)
    assert len({run.folder for run in runs}) == len(runs) == 32
    assert [run.seed for run in runs] == [0] * 16 + [1] * 16
    assert runs[0].name == "pets/caformer_s18/frozen/lr-0.001/seed0"
    assert {run.name.split("/")[1] for run in runs} == {"caformer_s18", "timm-resnet50"}


def test_coco_data_in_the_config(tmp_path):
    run = runs_of(tmp_path / "out", coco(tmp_path / "c"), budget=Budget(epochs=3, batch=4))[1]
    cfg = run_config(run)
    assert cfg.train_cfg.max_iters == 11 and cfg.train_dataloader.batch_size == 4  # 14 pictures
    assert cfg.optim_wrapper.optimizer.lr == 1e-2 and cfg.randomness.seed == 0
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 2
    ids = {}
    for split in ("train", "val", "test"):
        dataset = cfg[f"{split}_dataloader"].dataset
        assert dataset.metainfo.classes == ("cat", "dog")
        assert dataset.data_prefix.img == f"{tmp_path / 'c/pictures'}/"
        ids[split] = {i["id"] for i in json.loads(Path(dataset.ann_file).read_text())["images"]}
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    assert cfg.test_evaluator.ann_file == str(tmp_path / "c/test.json")
    assert len(ids["val"]) == 6 and not ids["val"] & ids["train"]
    assert ids["val"] | ids["train"] == ids["test"] == set(range(20))
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (64, 48)  # a tuple, as mmcv asks for
    assert cfg.default_hooks.checkpoint.get("save_best") is None


def test_ade20k_data_in_the_config(tmp_path):
    one = ade20k(tmp_path / "a")
    (run,) = runs_of(
        tmp_path / "out", one, learning_rates=(None,), select="best", validations=2, report="test"
    )
    cfg = run_config(run)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 2
    names = {}
    for split in ("train", "val", "test"):
        dataset = cfg[f"{split}_dataloader"].dataset
        assert dataset.type == "BaseSegDataset" and dataset.metainfo.classes == ("sky", "road")
        names[split] = Path(dataset.ann_file).read_text().split() if dataset.ann_file else None
    assert len(names["train"]) == 7 and sorted(names["train"] + names["val"]) == list("012345678")
    assert names["test"] is None
    assert cfg.test_dataloader.dataset.data_prefix.seg_map_path.endswith("labels/validation")
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (4, 2)
    assert cfg.default_hooks.checkpoint.save_best == "mIoU"
    other = replace(run.protocol, budget=Budget(4, image_size=64))
    with pytest.raises(ProtocolError, match="image_size=64 is for the shapes data"):
        run_config(replace(run, protocol=other))


def test_what_is_held_out_is_the_same_for_every_seed(tmp_path):
    one = coco(tmp_path / "c")
    found = [split_of(one, "val", seed, tmp_path / "out") for seed in (0, 1)]
    assert found[0] == found[1]
    with pytest.raises(ProtocolError, match="holdout: 20 of 20"):
        split_of(replace(one, val=dict(holdout=20)), "val", 0, tmp_path / "other")


def test_what_is_held_out_of_folders_in_folders(tmp_path):
    """As Cityscapes has them; names may hold blanks."""
    one = ade20k(tmp_path / "a")
    city = tmp_path / "a/labels/training/a city"
    city.mkdir()
    for path in city.parent.glob("*.png"):
        path.rename(city / f"no {path.name}")
    named = []
    for name in ("train", "val"):
        split = split_of(one, name, 0, tmp_path / "out")
        named += Path(split["names"]).read_text().splitlines()
        assert pictures_in(one, split) == dict(train=7, val=2)[name]
    assert sorted(named) == [f"a city/no {i}" for i in range(9)]


@pytest.mark.parametrize("shots", [1, 3])
def test_shots_are_drawn_by_the_seed(shots, tmp_path):
    one = coco(tmp_path / "c")
    one = replace(one, train=dict(one.train, shots=shots), val={})
    drawn = []
    for seed in (0, 1):
        split = split_of(one, "train", seed, tmp_path / "out")
        content = json.loads(Path(split["annotations"]).read_text())
        counts = Counter(box["category_id"] for box in content["annotations"])
        assert counts[8] == shots and counts[7] >= shots
        assert {b["image_id"] for b in content["annotations"]} == {
            i["id"] for i in content["images"]
        }
        drawn.append(sorted(image["id"] for image in content["images"]))
    assert drawn[0] != drawn[1]


def test_starts(tmp_path):
    one = coco(tmp_path / "c")
    starts = ("frozen", "fine-tuned", "random", "recipe")
    named = dict(
        zip(starts, runs_of(tmp_path, one, "poolformer_s12", learning_rates=(None,), starts=starts),
            strict=True)
    )  # fmt: skip
    backbones = {start: run_config(run).model.backbone for start, run in named.items()}
    weights = dict(type="Pretrained", checkpoint="metaformer://poolformer_s12")
    assert backbones["frozen"].type == "FrozenBackbone" and backbones["frozen"].cache is None
    assert backbones["frozen"].backbone.init_cfg == backbones["fine-tuned"].init_cfg == weights
    assert "init_cfg" not in backbones["random"] and backbones["recipe"].init_cfg == weights
    own = TINY.replace("32)))", "32)), init_cfg=dict(type='Pretrained', checkpoint='own.pth'))")
    (run,) = runs_of(tmp_path, replace(one, cache=True), own, learning_rates=(None,),
                     starts=("frozen",))  # fmt: skip
    backbone = run_config(run).model.backbone
    assert backbone.backbone.init_cfg.checkpoint == "own.pth"
    assert backbone.cache == str(tmp_path / "features")
    (run,) = runs_of(tmp_path, one, TINY, learning_rates=(None,), starts=("fine-tuned",))
    with pytest.raises(SettingError, match="no pretrained weights are known.*--starts"):
        run_config(run)


def test_a_random_start_looks_for_no_weights(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mmplugins.engine.config.composing.published_weights", lambda one: asked.append(one)
    )
    (run,) = runs_of(tmp_path, coco(tmp_path / "c"), TINY, learning_rates=(None,))
    assert run.start == "random" and "init_cfg" not in run_config(run).model.backbone
    assert asked == []


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_trackers_join_the_recipes_own_backends(name, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (run,) = runs_of(tmp_path, coco(tmp_path / "c"), learning_rates=(None,))
    local, tracker = run_config(run, name).visualizer.vis_backends
    assert local.type == "LocalVisBackend" and tracker.type.lower().startswith(name)
    if name == "mlflow":
        store = (tmp_path / "trackers/mlflow").resolve()
        assert tracker.tracking_uri == f"sqlite:///{store}/mlflow.db"
        assert tracker.run_name == run.name
    if name == "wandb":
        assert tracker.init_kwargs.mode == "offline"


def test_mlflow_keeps_all_in_the_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    cfg = Config(dict(work_dir=str(tmp_path)))
    for _ in range(2):
        prepare_tracker("mlflow", "pets", tmp_path / "out")
    use_tracker(cfg, "mlflow", "pets", "a/b", tmp_path / "out")
    (backend,) = cfg.visualizer.vis_backends
    backend = VISBACKENDS.build(dict(backend, save_dir=str(tmp_path / "out/vis")))
    backend.add_config(cfg)
    backend.add_scalar("mIoU", 5.0, step=3)
    backend.close()
    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("pets").experiment_id])
    assert run.data.metrics["mIoU"] == 5 and run.data.tags["mlflow.runName"] == "a/b"
    assert run.info.artifact_uri.startswith((tmp_path / "out/trackers/mlflow").resolve().as_uri())
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
