"""Predictions are those of mmdet's and mmseg's own inferencers."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmseg.apis import MMSegInferencer
from small_recipes import CLASSES, PALETTE, checkpoint_of, picture

import mmplugins
from mmplugins.checkpoint import CheckpointError
from mmplugins.inference import InputError
from mmplugins.inference.results import decode, encode


@pytest.mark.parametrize("recipe", ["retinanet", "mask_rcnn"])
def test_boxes_of_the_inferencer(recipe, trained, pictures):
    config, checkpoint = trained(recipe)
    inferencer = DetInferencer(str(config), str(checkpoint), device="cpu", show_progress=False)
    inputs = [str(path) for path in pictures]
    expected = inferencer(inputs, no_save_vis=True, return_datasamples=True)["predictions"]
    found = mmplugins.predict(mmplugins.load_model(config, checkpoint, device="cpu"), inputs)
    assert len(found) == len(pictures) and all(len(one) > 3 for one in found)
    for one, sample, path in zip(found, expected, inputs, strict=True):
        there = sample.pred_instances.numpy()
        assert one.source == path and one.size == sample.ori_shape
        np.testing.assert_array_equal(one.boxes, there.bboxes)
        np.testing.assert_array_equal(one.scores, there.scores)
        np.testing.assert_array_equal(one.labels, there.labels)
        if recipe == "mask_rcnn":
            masks = np.stack([one.mask(k) for k in range(len(one))])
            np.testing.assert_array_equal(masks, there.masks)
            assert masks.any()
        else:
            assert one.masks is None


def test_maps_of_the_inferencer(trained, pictures):
    config, checkpoint = trained("semantic_fpn")
    inferencer = MMSegInferencer(str(config), str(checkpoint), CLASSES, PALETTE, device="cpu")
    inputs = [str(path) for path in pictures]
    expected = [inferencer(path)["predictions"] for path in inputs]
    found = mmplugins.predict(mmplugins.load_model(config, checkpoint, device="cpu"), inputs)
    for one, there in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.label_map, there)
    assert len(np.unique(found[0].label_map)) > 1


@pytest.mark.parametrize("recipe", ["retinanet", "semantic_fpn"])
def test_a_batch_gives_what_single_pictures_give(recipe, trained, pictures):
    """Also where neighbours differ in size: padding would change the statistics of GroupNorm."""
    model = mmplugins.load_model(trained(recipe)[1])
    alone = mmplugins.predict(model, pictures)
    for one, there in zip(mmplugins.predict(model, pictures, batch_size=3), alone, strict=True):
        assert one.source == there.source
        np.testing.assert_allclose(one.boxes, there.boxes, atol=1e-3)
        np.testing.assert_array_equal(one.label_map, there.label_map)


def test_the_preprocessor_may_stand_beside_the_model(trained, pictures, tmp_path):
    """mmengine's runner hands a top-level ``data_preprocessor`` to a model without its own."""
    config, checkpoint = trained("semantic_fpn")
    cfg = Config.fromfile(config)
    beside = tmp_path / "beside.py"
    cfg.data_preprocessor = cfg.model.pop("data_preprocessor")
    cfg.dump(beside)
    same = mmplugins.load_model(config, checkpoint), mmplugins.load_model(beside, checkpoint)
    first, second = (mmplugins.predict(model, pictures[0])[0].label_map for model in same)
    np.testing.assert_array_equal(first, second)
    means = [model.runtime.model.data_preprocessor.mean for model in same]
    assert torch.equal(*means)


def test_a_checkpoint_alone_knows_its_config_and_classes(trained, pictures):
    config, checkpoint = trained("retinanet")
    model = mmplugins.load_model(checkpoint)
    assert model.classes == CLASSES and list(model.palette) == PALETTE
    with_config = mmplugins.load_model(config, checkpoint)
    ours, theirs = (mmplugins.predict(m, pictures[0])[0] for m in (model, with_config))
    np.testing.assert_array_equal(ours.boxes, theirs.boxes)


def test_segmentors_load_without_warnings_of_mmseg_about_itself(trained):
    checkpoint = trained("semantic_fpn")[1]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        mmplugins.load_model(checkpoint)
    assert not [str(one.message) for one in told if "build_loss" in str(one.message)]


@pytest.mark.parametrize("kind", ["CocoDataset", "mmdet.CocoDataset"])
def test_classes_of_the_data_set_where_nothing_else_names_them(kind, trained, folder):
    cfg = Config.fromfile(trained("retinanet")[0])
    dataset = cfg.test_dataloader.dataset
    dataset.type = kind
    del dataset.metainfo
    cfg.pop("metainfo")
    content = torch.load(trained("retinanet")[1], weights_only=True)
    content["meta"] = dict(cfg=cfg.pretty_text)
    alone, config = folder / f"{kind}.pth", folder / "nameless.py"
    torch.save(content, alone)
    config.write_text(cfg.pretty_text)
    for model in (mmplugins.load_model(alone), mmplugins.load_model(config, alone)):
        assert len(model.classes) == len(model.palette) == 80
        assert model.classes[:2] == ("person", "bicycle")
        assert model.labels_of(["traffic light"]) == [9]


def test_arrays_are_pictures_too(trained, pictures):
    model = mmplugins.load_model(trained("retinanet")[1])
    pixels = model.read(str(pictures[0]))
    (found,) = mmplugins.predict(model, pixels)
    (expected,) = mmplugins.predict(model, pictures[0])
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    with pytest.raises(InputError, match=r"float64\[2, 2\].* expected uint8\[H, W, 3\]"):
        mmplugins.predict(model, np.zeros((2, 2)))


def test_scores_and_classes_are_chosen(trained, pictures):
    model = mmplugins.load_model(trained("retinanet")[1])
    (every,) = mmplugins.predict(model, pictures[0])
    middle = float(np.median(every.scores))
    (chosen,) = mmplugins.predict(model, pictures[0], score_thr=middle, classes=["bar", "2"])
    keep = (every.scores >= middle) & np.isin(every.labels, [1, 2])
    assert 0 < keep.sum() < len(every)
    np.testing.assert_array_equal(chosen.boxes, every.boxes[keep])
    with pytest.raises(InputError, match="class 'bra' .* it has disc, bar, cross. Did you mean"):
        mmplugins.predict(model, pictures[0], classes=["bra"])
    with pytest.raises(InputError, match=r"score_thr=2: expected 0 to 1"):
        mmplugins.predict(model, pictures[0], score_thr=2)


def test_deployed_files_and_folded_models(trained, pictures, folder):
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    from mmplugins.deployment import reparameterize

    config, checkpoint = trained("retinanet")
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint)["state_dict"])
    deployed = folder / "deployed.pth"
    torch.save(dict(state_dict=reparameterize(model).state_dict()), deployed)
    (expected,) = mmplugins.predict(mmplugins.load_model(config, checkpoint), pictures[0])
    for loaded in (
        mmplugins.load_model(config, deployed),
        mmplugins.load_model(config, checkpoint, deploy=True),
    ):
        assert "deploy_form" in loaded.runtime.model.state_dict()
        (found,) = mmplugins.predict(loaded, pictures[0])
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"holds no config .* CONFIG CHECKPOINT"):
        mmplugins.load_model(deployed)


def test_the_wrong_checkpoint_is_refused(trained):
    config, _ = trained("retinanet")
    _, other = trained("mask_rcnn")
    with pytest.raises(CheckpointError, match=r"mask_rcnn.pth does not fit the RetinaNet.*missing"):
        mmplugins.load_model(config, other)


def test_absent_files(trained, folder):
    config, checkpoint = trained("retinanet")
    with pytest.raises(InputError, match=r"checkpoint '.*none.pth' does not exist"):
        mmplugins.load_model(config, folder / "none.pth")
    with pytest.raises(InputError, match="is a config: give its checkpoint too"):
        mmplugins.load_model(config)
    with pytest.raises(InputError, match=r"input '.*none.jpg' does not exist"):
        mmplugins.predict(mmplugins.load_model(checkpoint), folder / "none.jpg")


def test_arguments_that_a_file_does_not_take(trained, folder):
    config, checkpoint = trained("retinanet")
    exported = folder / "empty.onnx"
    exported.write_bytes(b"")
    for more in (dict(options={"a": 1}), dict(deploy=True), dict(backbone="poolformer_s12")):
        with pytest.raises(InputError, match="empty.onnx is exported, its model is fixed"):
            mmplugins.load_model(exported, **more)
    with pytest.raises(InputError, match="backbone='poolformer_s12': .* give CONFIG CHECKPOINT"):
        mmplugins.load_model(checkpoint, backbone="poolformer_s12")
    with pytest.raises(InputError, match="precision: only exported files take this"):
        mmplugins.load_model(checkpoint, precision="bf16")
    with pytest.raises(InputError, match="is a config: give its checkpoint too"):
        mmplugins.load_model("mmdet::retinanet/retinanet_r50_fpn_1x_coco")


def test_pipelines_that_cannot_be_built(trained):
    config, checkpoint = trained("retinanet")
    step = "test_dataloader.dataset.pipeline.1"
    for options in ({f"{step}.type": "Resizing"}, {f"{step}.nonsense": 1}):
        with pytest.raises(InputError, match=r"pipeline of .*retinanet.pth cannot be built: .*es"):
            mmplugins.load_model(config, checkpoint, options=options)


def test_unusable_devices(trained):
    with pytest.raises(InputError, match="device 'tpu' cannot be used"):
        mmplugins.load_model(trained("retinanet")[1], device="tpu")


def test_records_are_cocos(trained, pictures):
    model = mmplugins.load_model(trained("mask_rcnn")[1])
    (found,) = mmplugins.predict(model, pictures[0])
    records = json.loads(json.dumps(found.coco_records(7, [10, 20, 30])))
    assert len(records) == len(found)
    for k, record in enumerate(records):
        x, y, width, height = record["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], found.boxes[k], atol=2e-3)
        assert record["image_id"] == 7 and record["category_id"] == 10 * (found.labels[k] + 1)
        np.testing.assert_array_equal(decode(record["segmentation"]), found.mask(k))


def test_masks_survive_run_lengths():
    masks = np.random.default_rng(0).random((3, 7, 5)) < 0.5
    for mask, rle in zip(masks, encode(masks), strict=True):
        np.testing.assert_array_equal(decode(rle), mask)


def test_a_picture_too_small_for_the_model(folder, trained):
    config, _ = trained("semantic_fpn")
    small = config.with_name("unscaled.py")
    pipeline = "[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]"
    small.write_text(
        f"_base_ = {config.name!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline}))\n"
    )
    model = mmplugins.load_model(small, checkpoint_of(small, "unscaled.pth"))
    with pytest.raises(InputError, match=r"tiny.png cannot be predicted on .* of 1x1 pixels"):
        mmplugins.predict(model, picture(folder / "tiny.png", (1, 1)))
