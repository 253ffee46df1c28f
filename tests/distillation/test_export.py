"""What is left when the training is over: a plain, folded model and nothing of the teacher."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from small_pairs import batch, build, distiller, model_config, recipe

from mmplugins.distillation import DistillationError, export_student, plain_student
from mmplugins.distillation.captures import stay_visible

TASK = "semantic-fpn"


def learnt(model):
    """Weights at which every block has an effect."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def trained(tmp_path):
    """Config and checkpoint of a distillation, and its student."""
    arch = dict(depths=(1, 1, 2, 1), dims=(16, 16, 24, 32))
    teacher = model_config(TASK, "PoolFormer", arch=arch)
    model = learnt(distiller(TASK, dict(mixer={}), teacher=teacher))
    cfg = recipe(TASK)
    cfg.distillation = dict(mixer={})
    cfg.model = dict(
        type="Distiller",
        student=model_config(TASK, "RIFormer"),
        teacher=teacher,
        terms=dict(mixer={}),
        untrained_teacher=True,
    )
    cfg.dump(tmp_path / "training.py")
    meta = dict(dataset_meta=dict(classes=("a", "b", "c", "d")), cfg="a text with the teacher")
    content = dict(state_dict=model.state_dict(), meta=meta, optimizer={})
    torch.save(content, tmp_path / "iter_1.pth")
    return tmp_path / "training.py", tmp_path / "iter_1.pth", model.student.eval()


def outputs(model):
    with torch.no_grad():
        return model.eval()(batch(TASK)[0])


def test_plain_student():
    student = model_config(TASK, "RIFormer", with_cp=True)
    model = learnt(distiller(TASK, dict(mixer={}), student=student))
    before = copy.deepcopy(model.state_dict())
    plain = plain_student(model)
    deployed = build(TASK, model_config(TASK, "RIFormer", deploy=True))
    deployed.load_state_dict(plain.state_dict())
    expected = outputs(model.student)
    for folded in (plain, deployed):
        torch.testing.assert_close(outputs(folded), expected, rtol=1e-5, atol=1e-5)
    assert not any(stay_visible in m._forward_hooks.values() for m in plain.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_export(trained, tmp_path):
    config, checkpoint, student = trained
    weights, plain_config = export_student(config, checkpoint, tmp_path / "out/student.pth")
    text = plain_config.read_text()
    assert "teacher" not in text and "Distiller" not in text and "PoolFormer" not in text
    content = torch.load(weights, weights_only=True)
    assert set(content) == {"state_dict", "meta"}
    assert content["meta"] == dict(dataset_meta=dict(classes=("a", "b", "c", "d")))
    assert not any("token_mixer" in k or k.startswith("terms.") for k in content["state_dict"])
    plain = build(TASK, Config.fromfile(plain_config).model)
    plain.load_state_dict(content["state_dict"])
    torch.testing.assert_close(outputs(plain), outputs(student), rtol=1e-5, atol=1e-5)


def test_export_in_training_form(trained, tmp_path):
    config, checkpoint, student = trained
    weights, plain_config = export_student(
        config, checkpoint, tmp_path / "student.pth", fold_mixers=False
    )
    plain = build(TASK, Config.fromfile(plain_config).model)
    plain.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    assert torch.equal(outputs(plain), outputs(student))
    assert any("token_mixer" in key for key in plain.state_dict())


def test_nothing_is_overwritten(trained, tmp_path):
    config, checkpoint, _ = trained
    export_student(config, checkpoint, tmp_path / "student.pth")
    with pytest.raises(FileExistsError):
        export_student(config, checkpoint, tmp_path / "student.pth")
    (tmp_path / "student.pth").unlink()
    with pytest.raises(FileExistsError, match="student.py exists"):
        export_student(config, checkpoint, tmp_path / "student.pth")
    export_student(config, checkpoint, tmp_path / "student.pth", overwrite=True)


def test_a_config_of_something_else(trained, tmp_path):
    _, checkpoint, _ = trained
    with pytest.raises(DistillationError, match="'EncoderDecoder': expected 'Distiller'"):
        export_student(recipe(TASK), checkpoint, tmp_path / "student.pth")


def test_weights_of_something_else(trained, tmp_path):
    config, _, _ = trained
    torch.save(dict(state_dict=dict(a=torch.ones(1))), tmp_path / "a.pth")
    with pytest.raises(DistillationError, match="does not fit the plain student"):
        export_student(config, tmp_path / "a.pth", tmp_path / "student.pth")
    assert not (tmp_path / "student.pth").exists()
