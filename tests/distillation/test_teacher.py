"""Where the teacher comes from, and pairs that cannot be."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from small_pairs import batch, build, distiller, model_config, recipe

from mmplugins.distillation import DistillationError, Distiller

TASK = "semantic-fpn"
TERMS = dict(mixer={})


@pytest.fixture
def trained(tmp_path):
    """Config file and checkpoint of a teacher, and its weights."""
    torch.manual_seed(3)
    cfg = recipe(TASK)
    cfg.model = model_config(TASK, "PoolFormer")
    cfg.dump(tmp_path / "teacher.py")
    weights = build(TASK, cfg.model).state_dict()
    torch.save(dict(state_dict=weights, meta={}), tmp_path / "teacher.pth")
    return tmp_path / "teacher.py", tmp_path / "teacher.pth", weights


def test_config_file_and_checkpoint(trained):
    config, checkpoint, weights = trained
    model = distiller(TASK, teacher=str(config), teacher_checkpoint=str(checkpoint))
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, weights[key])
    assert model(*batch(TASK), mode="loss")["loss_distill_mixer"] > 0


def test_a_distilled_teacher(trained, tmp_path):
    """Its checkpoint holds projections, too."""
    config, _, weights = trained
    weights = dict(weights, **{"terms.mixer.projections.0.weight": torch.ones(1)})
    torch.save(weights, tmp_path / "other.pth")
    distiller(TASK, teacher=str(config), teacher_checkpoint=str(tmp_path / "other.pth"))


def test_missing_weights_are_refused():
    model = dict(
        type="Distiller",
        student=model_config(TASK, "RIFormer"),
        teacher=model_config(TASK, "PoolFormer"),
        terms=TERMS,
    )
    with pytest.raises(DistillationError, match="teacher_checkpoint is missing"):
        build(TASK, model)
    build(TASK, dict(model, untrained_teacher=True))


def test_no_such_config():
    with pytest.raises(DistillationError, match=r"'no/such.py' does not exist \(looked for /"):
        distiller(TASK, teacher="no/such.py")


def test_a_config_without_a_model(tmp_path):
    Config(dict(a=1)).dump(tmp_path / "a.py")
    with pytest.raises(DistillationError, match="has no `model`"):
        distiller(TASK, teacher=str(tmp_path / "a.py"))


def test_weights_of_another_model(trained):
    config, checkpoint, _ = trained
    arch = dict(depths=(1, 1, 4, 1), dims=(8, 16, 24, 32))
    other = model_config(TASK, "PoolFormer", arch=arch)
    with pytest.raises(DistillationError, match="does not fit the teacher(.|\n)*missing in the"):
        distiller(TASK, teacher=other, teacher_checkpoint=str(checkpoint))


def test_shared_parameters():
    student, teacher = (build(TASK, model_config(TASK, k)) for k in ("RIFormer", "PoolFormer"))
    teacher.decode_head = student.decode_head
    with pytest.raises(DistillationError, match=r"share \d+ parameters: decode_head"):
        Distiller(student, teacher, TERMS)
    with pytest.raises(DistillationError, match="share"):
        Distiller(student, student, TERMS)
    # The same memory under another parameter.
    teacher = build(TASK, model_config(TASK, "PoolFormer"))
    teacher.backbone.stem.conv.weight.data = student.backbone.stem.conv.weight.data
    with pytest.raises(DistillationError, match="share 1 parameters: backbone.stem.conv.weight"):
        Distiller(student, teacher, TERMS)


def test_pictures_prepared_differently():
    teacher = model_config(TASK, "PoolFormer")
    teacher.data_preprocessor.mean = [127.5, 127.5, 127.5]
    with pytest.raises(DistillationError, match=r"(?s)mean.*123\.675.*mean.*127\.5"):
        distiller(TASK, teacher=teacher)


def test_no_detector():
    model = build(TASK, model_config(TASK, "PoolFormer"))
    with pytest.raises(DistillationError, match="the teacher is a PoolFormer: expected"):
        Distiller(build(TASK, model_config(TASK, "RIFormer")), model.backbone, TERMS)
