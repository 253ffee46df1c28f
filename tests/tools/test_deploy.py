import json
import subprocess
import sys
from pathlib import Path

import mmengine
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.registry import MODELS, init_default_scope
from mmseg.apis import MMSegInferencer, inference_model, init_model
from safetensors.torch import load_file

from mmplugins.checkpoint import read_checkpoint
from mmplugins.deployment import largest_difference, raw_outputs, reparameterize
from mmplugins.engine import SettingError, load_composed
from mmplugins.inference import load_model

ROOT = Path(__file__).parents[2]

META = dict(classes=["a", "b", "c", "d"], palette=[[1, 2, 3]] * 4)

BOXES = """
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
"""


def bases(model: str, data: str, schedule: str, runtime: str) -> str:
    parts = (f"models/{model}", f"datasets/{data}", f"schedules/{schedule}", f"{runtime}_runtime")
    return f"_base_ = [{{configs!r}} + '/_base_/' + part + '.py' for part in {parts}]"


RECIPES = {
    "retinanet": "_base_ = {configs!r} + '/retinanet/retinanet_shapes.py'"
    + BOXES
    + """
model = dict(
    backbone=dict(tiny, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[16, 24, 32]),
    test_cfg=dict(score_thr=0.001),
)
""",
    "mask_rcnn": "_base_ = {configs!r} + '/mask_rcnn/mask-rcnn_shapes.py'"
    + BOXES
    + """
model = dict(
    backbone=tiny,
    neck=dict(in_channels=[8, 16, 24, 32]),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)
""",
    "cascade_mask_rcnn": bases(
        "cascade_mask_rcnn", "shapes_instance", "schedule_shapes", "detection"
    )
    + BOXES
    + """
model = dict(
    backbone=tiny,
    neck=dict(in_channels=[8, 16, 24, 32]),
    roi_head=dict(
        bbox_head=[dict(head, num_classes=4) for head in _base_.model.roi_head.bbox_head],
        mask_head=dict(num_classes=4),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)
""",
    "semantic_fpn": bases(
        "semantic_fpn", "shapes_semantic", "schedule_shapes_semantic", "segmentation"
    )
    + """
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=tiny,
    neck=dict(in_channels=[8, 16, 24, 32]),
    decode_head=dict(num_classes=4),
)
""",
    "upernet": bases("upernet", "shapes_semantic", "schedule_shapes_semantic", "segmentation")
    + """
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=tiny,
    decode_head=dict(in_channels=[8, 16, 24, 32], num_classes=4, channels=32),
    auxiliary_head=dict(in_channels=24, num_classes=4, channels=32),
    test_cfg=dict(mode='whole'),
)
""",
}

QUICK = ("semantic_fpn",)


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture(params=["detection", "segmentation"])
def trained(request, folder):
    """A config, and a checkpoint in trained form that fits it."""
    config = request.getfixturevalue(request.param)
    torch.manual_seed(0)
    model = build(config)
    checkpoint = folder / f"{request.param}.pth"
    meta = dict(epoch=3, dataset_meta=META)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint, model


def build(config):
    cfg = load_composed(str(config), None, None)
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model).eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_written_file_gives_the_same_outputs(trained, suffix, tmp_path, call, capsys):
    config, checkpoint, model = trained
    out = tmp_path / f"deployed{suffix}"
    call("deploy", config, checkpoint, "--out", out, "--size", 64, 96)
    said = capsys.readouterr().out
    assert "outputs differ by" in said and "reparameterize(model.eval())" in said

    weights = load_file(out) if suffix == ".safetensors" else torch.load(out)["state_dict"]
    assert read_checkpoint(out)["meta"]["dataset_meta"] == META
    loaded = reparameterize(build(config))
    loaded.load_state_dict(weights)
    image = torch.randn(1, 3, 64, 64)
    expected = raw_outputs(model, image)
    assert largest_difference(raw_outputs(loaded, image), expected) < 1e-5
    alone = load_model(out, device="cpu")  # by the config that it holds
    assert list(alone.classes) == META["classes"]
    assert largest_difference(raw_outputs(alone.runtime.model, image), expected) < 1e-5

    with pytest.raises(FileExistsError, match="overwrite"):
        call("deploy", config, checkpoint, "--out", out)
    call("deploy", config, checkpoint, "--out", out, "--overwrite")


def test_stands_beside_the_checkpoint_unless_told(trained, call):
    config, checkpoint, _ = trained
    call("deploy", config, checkpoint)
    assert checkpoint.with_name(f"{checkpoint.stem}_deploy.safetensors").is_file()


def test_both_forms_are_tested_in_deploy_form(detection, folder, call):
    """Boxes are those of the trained form, from a file of either form."""
    torch.manual_seed(0)
    checkpoint, deployed = folder / "seeded.pth", folder / "seeded_deploy.pth"
    torch.save(dict(state_dict=build(detection).state_dict(), meta={}), checkpoint)
    call("deploy", detection, checkpoint, "--out", deployed)
    found = []
    for file, options in [(checkpoint, ()), (checkpoint, ("--deploy",)), (deployed, ("--deploy",))]:
        out = folder / f"boxes_{len(found)}"
        call("test", detection, file, "--work-dir", out, "--out", f"{out}.pkl", *options)
        found.append([image["pred_instances"] for image in mmengine.load(f"{out}.pkl")])
    assert any(len(boxes["scores"]) for boxes in found[0])
    for others in found[1:]:
        for boxes, expected in zip(others, found[0], strict=True):
            torch.testing.assert_close(boxes["scores"], expected["scores"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_averaged_augmented_and_deployed(detection, folder, call):
    """EMA, channels-last, ``--tta`` and ``--deploy`` together find the boxes of ``--tta`` alone."""
    torch.manual_seed(0)
    checkpoint, deployed = folder / "all.pth", folder / "all_deploy.pth"
    torch.save(dict(state_dict=build(detection).state_dict(), meta={}), checkpoint)
    call("deploy", detection, checkpoint, "--out", deployed)
    averaged = folder / "averaged.py"
    hooks = "[dict(type='EMAHook'), dict(type='ChannelsLastHook')]"
    averaged.write_text(f"_base_ = {str(detection)!r}\ncustom_hooks = {hooks}\n")
    found = []
    for config, file, options in [
        (detection, checkpoint, ()),
        (averaged, checkpoint, ("--deploy",)),
        (averaged, deployed, ("--deploy",)),
    ]:
        out = folder / f"all_{len(found)}"
        flags = ("--work-dir", out, "--out", f"{out}.pkl", "--tta", *options)
        call("test", config, file, *flags)
        found.append([image["pred_instances"]["scores"] for image in mmengine.load(f"{out}.pkl")])
    assert any(len(scores) for scores in found[0])
    for others in found[1:]:
        for scores, expected in zip(others, found[0], strict=True):
            torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_hook_is_for_tests_only(detection, folder, call):
    config = folder / "hooked.py"
    config.write_text(f"_base_ = {str(detection)!r}\ncustom_hooks = [dict(type='DeployHook')]\n")
    with pytest.raises(RuntimeError, match="for inference"):
        call("train", config, "--work-dir", folder / "hooked")


def test_deployed_file_is_not_deployed_again(trained, tmp_path, call):
    config, checkpoint, _ = trained
    out = tmp_path / "once.pth"
    call("deploy", config, checkpoint, "--out", out)
    with pytest.raises(ValueError, match="deployed form"):
        call("deploy", config, out, "--out", tmp_path / "twice.pth")
    assert not (tmp_path / "twice.pth").exists()


def test_a_distillation_is_exported_first(tmp_path, call):
    config = ROOT / "configs/riformer/semantic-fpn_riformer-s12_distill-poolformer-s12_shapes.py"
    with pytest.raises(SettingError, match=r"'Distiller' in .* write the student first"):
        call("deploy", config, tmp_path / "none.pth")


@pytest.mark.parametrize("processes", [1, slow(2)])
@pytest.mark.parametrize("kind", [*QUICK, *(slow(kind) for kind in RECIPES if kind not in QUICK)])
def test_scores_as_trained_for_every_kind_of_recipe(kind, processes, write, folder, call, tmp_path):
    """Trained, deployed and tested with the recipe's own norms, SyncBN in the segmentors."""
    config = write(kind, "tiny['_delete_'] = True\n" + RECIPES[kind])
    cfg = load_composed(str(config), None, None)
    torch.manual_seed(0)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    for module in model.modules():  # statistics that matter
        if getattr(module, "running_var", None) is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    checkpoint = tmp_path / "trained.pth"
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    call("deploy", config, checkpoint, "--out", tmp_path / "deployed.pth", "--size", 64, 64)
    scores = []
    for file, flags in (("trained", ()), ("deployed", ("--deploy",)), ("deployed", ())):
        out = tmp_path / f"scores{len(scores)}"
        args = (config, tmp_path / f"{file}.pth", "--work-dir", out, *flags)
        if processes == 1:
            call("test", *args)
        else:
            launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
            tool = map(str, (ROOT / "tools/test.py", *args, "--launcher", "pytorch"))
            command = [sys.executable, *launcher, *tool]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
            assert done.returncode == 0, done.stderr[-3000:]
        scores.append(json.loads((out / "test_results.json").read_text())["metrics"])
    assert scores[0] and scores[1] == scores[2] == pytest.approx(scores[0], rel=1e-3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_inferencers_take_the_file(trained, suffix, call, tmp_path, monkeypatch):
    """mmdet's and mmseg's own ways to load find the same from both forms, under its names."""
    config, checkpoint, _ = trained
    deployed = tmp_path / f"deployed{suffix}"
    call("deploy", config, checkpoint, "--out", deployed)
    picture = torch.randint(256, (64, 64, 3), generator=torch.Generator().manual_seed(0))
    picture = picture.numpy().astype("uint8")
    monkeypatch.chdir(tmp_path)
    found = []
    for file in map(str, (checkpoint, deployed)):
        if "detection" in str(config):
            model = init_detector(str(config), file, device="cpu")
            found.append([inference_detector(model, picture).pred_instances.scores])
            inferencer = DetInferencer(str(config), file, device="cpu", show_progress=False)
            predictions = inferencer(picture, no_save_vis=True)["predictions"]
            found[-1].append(torch.tensor(predictions[0]["scores"]))
        else:
            model = init_model(str(config), file, device="cpu")
            found.append([inference_model(model, picture).seg_logits.data])
            inferencer = MMSegInferencer(str(config), file, device="cpu")
            sample = inferencer(picture, return_datasamples=True)
            found[-1].append(sample.seg_logits.data)
        assert list(model.dataset_meta["classes"]) == META["classes"]
        assert list(inferencer.model.dataset_meta["classes"]) == META["classes"]
        assert len(found[-1][0]) == len(found[-1][1]) > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)
    with pytest.raises(RuntimeError, match="in deployed form.*in training mode"):
        model.train()(torch.zeros(1, 3, 64, 64))


def test_a_deployed_backbone_alone_makes_the_backbone_so(detection, tmp_path):
    torch.manual_seed(0)
    model = build(detection)
    model.backbone.switch_to_deploy()
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / "half.pth")
    loaded = init_detector(str(detection), str(tmp_path / "half.pth"), device="cpu")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert largest_difference(raw_outputs(loaded, image), raw_outputs(model, image)) < 1e-5
