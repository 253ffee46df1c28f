"""Each flag of the tools, on configs of mmdet and mmseg."""

from __future__ import annotations

import re

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from mmplugins.engine import LoadReportHook, SettingError, WholeCheckpointHook
from mmplugins.engine.config import settings

LOAD = dict(type="LoadImageFromFile")
LABELS = dict(type="LoadAnnotations", with_bbox=True)
PACK = dict(type="PackDetInputs", meta_keys=("img_id", "ori_shape"))


def detection_config(**changes) -> Config:
    return Config(
        dict(
            default_scope="mmdet",
            model=dict(type="RetinaNet"),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1)),
            default_hooks=dict(visualization=dict(type="DetVisualizationHook")),
            visualizer=dict(type="DetLocalVisualizer"),
            test_dataloader=dict(dataset=dict(type="CocoDataset", pipeline=[LOAD, LABELS, PACK])),
            test_evaluator=dict(type="CocoMetric"),
            **changes,
        )
    )


def segmentation_config() -> Config:
    cfg = detection_config()
    cfg.default_scope = "mmseg"
    cfg.test_evaluator = dict(type="IoUMetric")
    return cfg


def test_load_config_merges_options(tmp_path):
    path = tmp_path / "c.py"
    path.write_text("a = dict(b=1, c=2)\n")
    assert settings.load_config(path, {"a.b": 7}).a == dict(b=7, c=2)
    with pytest.raises(SettingError, match=r"nowhere\.py.*does not exist.*give the path"):
        settings.load_config(tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    ("cfg", "task"),
    [
        (dict(default_scope="mmdet", model=dict(type="X")), "detection"),
        (dict(default_scope="mmseg", model=dict(type="X")), "segmentation"),
        (dict(model=dict(type="mmseg.EncoderDecoder")), "segmentation"),
        (dict(default_scope="mmengine", model=dict(type="mmdet.RetinaNet")), "detection"),
    ],
)
def test_task_of(cfg, task):
    assert settings.task_of(Config(cfg)) == task


def test_task_of_unknown():
    with pytest.raises(SettingError, match="'mmpose'.*set default_scope to 'mmdet' or 'mmseg'"):
        settings.task_of(Config(dict(default_scope="mmpose", model=dict(type="TopDown"))))


def test_work_dir_order():
    cfg = Config(dict())
    settings.set_work_dir(cfg, None, "configs/family/leaf.py")
    assert cfg.work_dir == "work_dirs/leaf"
    cfg.work_dir = "own"
    settings.set_work_dir(cfg, None, "configs/family/leaf.py")
    assert cfg.work_dir == "own"
    settings.set_work_dir(cfg, "given", "configs/family/leaf.py")
    assert cfg.work_dir == "given"


def test_amp():
    cfg = detection_config()
    settings.use_amp(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ("AmpOptimWrapper", "dynamic")
    cfg.optim_wrapper.type = "ApexOptimWrapper"
    with pytest.raises(SettingError, match="'ApexOptimWrapper'.*expected 'OptimWrapper'"):
        settings.use_amp(cfg)


def test_auto_scale_lr():
    cfg = detection_config(auto_scale_lr=dict(enable=False, base_batch_size=16))
    settings.use_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
    with pytest.raises(SettingError, match="auto_scale_lr=dict"):
        settings.use_auto_scale_lr(detection_config())


def test_no_auto_scale_lr():
    cfg = detection_config(auto_scale_lr=None)
    with pytest.raises(SettingError, match="base_batch_size=16"):
        settings.use_auto_scale_lr(cfg)


def test_amp_of_several_optimisers():
    cfg = detection_config()
    cfg.optim_wrapper = dict(constructor="Own", one=cfg.optim_wrapper, two=cfg.optim_wrapper)
    with pytest.raises(SettingError, match="several optimisers: .*type='AmpOptimWrapper'"):
        settings.use_amp(cfg)
    assert "type" not in cfg.optim_wrapper


NEW_STYLE = """
from mmdet.models import RetinaNet
from mmengine.optim import OptimWrapper
from torch.optim import SGD

model = dict(type=RetinaNet)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))
"""


def test_configs_of_the_new_style(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(f"from mmengine.config import read_base\n{NEW_STYLE}")
    cfg = settings.load_config(path)
    assert settings.task_of(cfg) == "detection"
    settings.use_amp(cfg)
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    path.write_text(path.read_text().replace("RetinaNet", "RetinaNett"))
    with pytest.raises(SettingError, match="cannot be read, ImportError: .*RetinaNett"):
        settings.load_config(path)


def test_resume(tmp_path):
    cfg = detection_config(load_from="other.pth")
    settings.use_resume(cfg, "auto")
    assert cfg.resume is True and cfg.load_from is None
    file = tmp_path / "epoch_1.pth"
    with pytest.raises(SettingError, match=r"epoch_1\.pth.*does not exist"):
        settings.use_resume(cfg, str(file))
    file.touch()
    settings.use_resume(cfg, str(file))
    assert cfg.load_from == str(file)
    assert settings.existing_checkpoint("https://host/a.pth") == "https://host/a.pth"


def test_tta_by_default_adds_the_mirrored_view():
    cfg = detection_config()
    settings.use_tta(cfg)
    load, augment = cfg.test_dataloader.dataset.pipeline
    views, labels, (pack,) = augment.transforms
    assert load == LOAD and labels == [LABELS]
    assert [view.prob for view in views] == [0.0, 1.0]  # the plain view first: its labels are kept
    assert pack.meta_keys == ("img_id", "ori_shape", "flip", "flip_direction")
    assert cfg.model.type == "DetTTAModel" and cfg.model.module.type == "RetinaNet"


def test_tta_of_the_config_goes_first():
    cfg = segmentation_config()
    cfg.tta_model = dict(type="OwnTTA")
    cfg.tta_pipeline = [dict(type="Own")]
    cfg.test_dataloader.dataset = dict(type="RepeatDataset", dataset=cfg.test_dataloader.dataset)
    settings.use_tta(cfg)
    assert cfg.test_dataloader.dataset.dataset.pipeline == [dict(type="Own")]
    assert cfg.model.type == "OwnTTA" and cfg.model.module.type == "RetinaNet"


def test_tta_of_several_data_sets():
    cfg = detection_config()
    inner = cfg.test_dataloader.dataset
    repeated = dict(type="RepeatDataset", times=2, dataset=inner)
    cfg.test_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, repeated])
    settings.use_tta(cfg)
    first, second = cfg.test_dataloader.dataset.datasets
    for dataset in (first, second.dataset):
        assert dataset.pipeline[-1].type == "TestTimeAug"


def test_draw_predictions(tmp_path):
    folder = tmp_path / "drawn"
    cfg, seg = detection_config(), segmentation_config()
    settings.draw_predictions(cfg, show_dir=str(folder))
    settings.draw_predictions(seg, show=True, show_dir=str(folder), wait_time=1.5)
    hook = dict(type="DrawPredictionsHook", folder=str(folder), show=False, wait_time=2.0)
    assert cfg.custom_hooks[-1] == hook
    assert seg.custom_hooks[-1] == dict(hook, show=True, wait_time=1.5)
    folder.mkdir()
    (folder / "a.png").touch()
    with pytest.raises(SettingError, match="not empty, and nothing is overwritten"):
        settings.draw_predictions(cfg, show_dir=str(folder))
    bare = Config(dict(default_scope="mmseg", model=dict(type="EncoderDecoder")))
    settings.draw_predictions(bare, show=True)
    assert bare.visualizer.type == "SegLocalVisualizer"


def test_own_hooks_come_into_any_config():
    cfg = Config(dict(model=dict(type="RetinaNet")))
    settings.use_own_hooks(cfg)
    assert {one.type for one in cfg.default_hooks.values()} == set(settings.OWN_HOOKS.values())
    assert cfg.custom_imports.imports == ["mmplugins"]
    hooks = dict(mine=dict(type="ResultsHook"), progress=None)
    cfg = Config(dict(default_hooks=hooks, custom_hooks=[dict(type=LoadReportHook)]))
    settings.use_own_hooks(cfg)
    assert dict(cfg.default_hooks) == hooks, "what the config has stays"


def test_the_safe_checkpoint_hook_also_where_the_config_has_a_class():
    cfg = detection_config()
    cfg.default_hooks.checkpoint = dict(type=CheckpointHook, interval=2)
    settings.use_own_hooks(cfg)
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    assert type(hook) is WholeCheckpointHook and hook.interval == 2


def test_dump_predictions(tmp_path):
    cfg, seg = detection_config(), segmentation_config()
    out = str(tmp_path / "all.pkl")
    settings.dump_predictions(cfg, out)
    assert cfg.test_evaluator[1] == dict(type="DumpDetResults", out_file_path=out)
    settings.dump_predictions(seg, str(tmp_path / "maps"))
    assert seg.test_evaluator[0].output_dir == str(tmp_path / "maps")
    with pytest.raises(SettingError, match=r"'all\.txt'.*\.pkl"):
        settings.dump_predictions(detection_config(), "all.txt")
    (tmp_path / "all.pkl").touch()
    with pytest.raises(SettingError, match="exists, and nothing is overwritten"):
        settings.dump_predictions(detection_config(), out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(type='A'", "SyntaxError"),
        ("_base_ = 'none.py'", r"none\.py"),
        ("custom_imports = dict(imports=['no_such_module'])", "no_such_module.*custom_imports"),
        ("_base_ = ['a.py', 'a.py']", "correct it"),
    ],
)
def test_a_config_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "a.py").write_text("lr = 1")
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(SettingError, match=r"broken\.py' cannot be read") as stopped:
        settings.load_config(tmp_path / "broken.py")
    assert re.search(message, str(stopped.value), re.DOTALL)


def test_options_that_cannot_be_merged(tmp_path):
    (tmp_path / "a.py").write_text("hooks = [dict(type='A')]")
    with pytest.raises(SettingError, match="--cfg-options .*hooks.3.*cannot be merged"):
        settings.load_config(tmp_path / "a.py", {"hooks.3.type": "B"})


class Part:
    pass


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (dict(type="mmdet.FPN"), "FPN"),
        (dict(type="FPN"), "FPN"),
        (dict(type=Part), "Part"),
        (Part(), "Part"),
        (dict(), "no type"),
    ],
)
def test_type_names(part, name):
    assert settings.type_name(part) == name


@pytest.mark.parametrize(
    "name", ["modle.backbone.arch", "optim_wraper", "train_dataloder.batch_size"]
)
def test_options_that_nobody_would_read(tmp_path, name):
    path = tmp_path / "a.py"
    path.write_text("model = dict(type='RetinaNet')\ntrain_dataloader = dict(batch_size=2)\n")
    with pytest.raises(
        SettingError, match=f"--cfg-options {name}: the config has no.*Did you mean"
    ):
        settings.load_config(path, {name: 1})
    settings.load_config(path, {"optim_wrapper.type": "OptimWrapper", "model.type": "FCOS"})


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "detection"),
        ("mmseg::fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512", "segmentation"),
        ("mmplugins::retinanet/retinanet_shapes.py", "detection"),
    ],
)
def test_configs_of_packages_by_name(name, task):
    cfg = settings.load_config(name, {"randomness.seed": 3})
    assert settings.task_of(cfg) == task and cfg.randomness.seed == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mmdte::a/b.py", "there is no package 'mmdte': expected mmdet, mmseg"),
        (
            "mmdet::retinanet/retinanet_r50_fpn_1x_coc",
            "Did you mean 'retinanet/retinanet_r50_fpn_1x",
        ),
    ],
)
def test_a_wrong_name_is_named(name, message):
    with pytest.raises(SettingError, match=message):
        settings.load_config(name)
