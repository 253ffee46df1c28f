"""Configs from files are data: nothing in them runs, and they build registered classes only."""

from __future__ import annotations

import math

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS  # noqa: F401 - what is registered must be there

import mmplugins  # noqa: F401 - registers backbones
from mmplugins.checkpoint import CheckpointError
from mmplugins.checkpoint.config_text import check_harmless, config_from_text, literal


def test_what_mmengine_writes_is_read():
    cfg = Config(
        dict(
            model=dict(
                type="PoolFormer",
                sizes=[1, -2.5, (3, 4)],
                none=None,
                most=float("inf"),
                least=-float("inf"),
                odd={"not an identifier": dict(a=1), 7: "seven"},
                empty=dict(),
            ),
            note="a 'quoted' \"text\"\nof two lines",
            flags=[True, False],
        )
    )
    read = config_from_text(cfg.pretty_text, "a test")
    assert read.to_dict() == cfg.to_dict()
    assert math.isinf(read.model.most) and read.model.sizes[2] == (3, 4)


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "a = __import__('os').system('true')",
        "a = [i for i in range(3)]",
        "a = dict(**globals())",
        "a = {**{}}",
        "a = dict([('b', 1)])",
        "a.b = 1",
        "a = b = 1",
        "a = lambda: 0",
        "a = f'{1}'",
        "a = list((1, 2))",
        "def f(): pass",
        "a = " + "(" * 500 + ")" * 500,
        "a =",
    ],
)
def test_programs_are_refused(text):
    with pytest.raises(CheckpointError, match="the config in a test is not plain data"):
        config_from_text(text, "a test")


def test_literals_of_the_command_line():
    text = " [dict(type='A', lr=1e-3), {'b': (1, -2)}, dict(a=dict(b=None))] "
    assert literal(text) == [dict(type="A", lr=1e-3), {"b": (1, -2)}, dict(a=dict(b=None))]
    for wrong in ("dict(type=A)", "open('f')"):
        with pytest.raises(ValueError):
            literal(wrong)
    with pytest.raises(SyntaxError):
        literal("dict(type='A'")


HARMFUL = [
    dict(model=dict(type="os.system", command="true")),
    dict(model=dict(type="RetinaNet", neck=[dict(type="subprocess.run")])),
    dict(model=dict(type="mmengine.utils.get_object_from_string")),
    dict(model=dict(test_cfg=dict(nms=dict(type="__import__('os').system('true')")))),
    dict(model=dict(type="CameraMotionCompensation", warp_mode="print(1)")),
    dict(model=dict(type=print)),
    dict(model=dict(type="mmplugins.utils.write_whole")),
    dict(model=dict(type="mmplugins.nothing.Model")),
    dict(model=dict(type="RetinaNet", neck=[dict(type="FPN", _scope_="antigravity")])),
    dict(default_scope="antigravity"),
    dict(custom_imports=dict(imports=["antigravity"])),
    dict(custom_imports=dict(imports="antigravity")),
]


@pytest.mark.parametrize("parts", HARMFUL, ids=str)
def test_unregistered_types_and_foreign_imports_are_refused(parts):
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with pytest.raises(CheckpointError, match="names what OpenMMLab and mmplugins do not have"):
        check_harmless(parts, "a test")


def test_registered_types_pass():
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    backbone = dict(type="PoolFormer", norm_cfg=dict(type="GN"))
    head = dict(type="RetinaHead", test_cfg=dict(nms=dict(type="nms")))
    model = dict(type="mmdet.RetinaNet", backbone=backbone, bbox_head=head)
    metric = dict(type="mmplugins.evaluation.coco.FastCocoMetric")  # loaded when it is asked for
    imports = dict(imports=["mmplugins", "mmdet.models"])
    parts = dict(model=model, custom_imports=imports, test_evaluator=metric)
    assert check_harmless(parts, "a test") is None
