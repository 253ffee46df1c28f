"""The leaves of configs/riformer that teach a student."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from small_pairs import CONFIGS

from mmplugins.engine import load_composed

LEAVES = sorted(path.name for path in CONFIGS.glob("riformer/*_distill-*.py"))
HEADS = dict(
    (("retinanet", "anchor_scores"), ("mask-rcnn", "region_scores"), ("semantic", "pixel_scores"))
)


def test_every_head_has_both_teachers_and_both_data():
    assert len(LEAVES) == len(HEADS) * 2 * 2


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf(leaf):
    text = (CONFIGS / "riformer" / leaf).read_text().splitlines()
    assert len(text) <= 25 and text[0].startswith("# RIFormer-S12 taught by ")
    cfg = Config.fromfile(CONFIGS / "riformer" / leaf)
    assert cfg.custom_imports == dict(imports=["mmplugins"], allow_failed_imports=False)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models, torch.device("meta"):
        model = models.build(cfg.model)
    names = type(model.student.backbone).__name__, type(model.teacher.backbone).__name__
    pool = "poolformer" in leaf
    assert names == ("RIFormer", "PoolFormer" if pool else "CAFormer")
    assert set(model.terms) == {"mixer", "block", HEADS[leaf.partition("_")[0].split("-fpn")[0]]}
    assert model.inherit == pool
    assert len(model.terms.mixer.pairs) == len(model.terms.block.pairs) == 2 + 2 + 6 + 2
    # The teacher's checkpoint is where tools/train.py puts it by default, at the end of training.
    loop = cfg.train_cfg
    last = f"epoch_{loop.max_epochs}" if "max_epochs" in loop else f"iter_{loop.max_iters}"
    assert model.teacher_checkpoint.endswith(f"/{last}.pth")
    # S12 and S18 have the same widths: nothing to project.
    assert not list(model.terms.parameters())


@pytest.mark.parametrize("teacher", ["poolformer-s12", "caformer-s18"])
@pytest.mark.parametrize("task", ["retinanet", "semantic-fpn"])
def test_another_student(task, teacher):
    """--backbone exchanges the student's backbone, whether the teacher is a file or a dict."""
    fpn = "" if task == "semantic-fpn" else "_fpn"
    path = CONFIGS / f"riformer/{task}_riformer-s12_distill-{teacher}{fpn}_shapes.py"
    own, cfg = Config.fromfile(path), load_composed(path, "riformer_s24")
    assert own.model.student.backbone.type == cfg.model.student.backbone.type == "RIFormer"
    assert (own.model.student.backbone.arch, cfg.model.student.backbone.arch) == ("s12", "s24")
    assert cfg.model.teacher == own.model.teacher and cfg.model.terms == own.model.terms
    cfg.model.inherit = False
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models, torch.device("meta"):
        model = models.build(cfg.model)
    assert len(model.student.backbone.stages[2].blocks) == 12
    assert type(model.teacher.backbone).__name__ in ("PoolFormer", "CAFormer")
    cfg = load_composed(path, "convnext_tiny")  # other widths, other blocks
    assert cfg.model.student.backbone.type == "ConvNeXt"
    assert list(cfg.model.student.neck.in_channels)[-1] == 768
    assert cfg.model.teacher == own.model.teacher
