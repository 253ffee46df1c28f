"""What the student starts from."""

from __future__ import annotations

import copy

import pytest
import torch
from small_pairs import TASKS, build, distiller, model_config

from mmplugins.distillation import DistillationError, inherit


@pytest.mark.parametrize("task", TASKS)
def test_every_tensor_but_the_token_mixers(task):
    torch.manual_seed(0)
    student, teacher = (build(task, model_config(task, k)) for k in ("RIFormer", "PoolFormer"))
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.normal_()
    before = copy.deepcopy(student.state_dict())
    report = inherit(student, teacher)
    given = teacher.state_dict()
    for key, value in student.state_dict().items():
        expected = before[key] if ".token_mixer." in key else given[key]
        assert torch.equal(value, expected), key
    mixers = [key for key in before if ".token_mixer." in key]
    assert len(mixers) == 2 * 5
    assert sorted(report.absent) == sorted(mixers)
    assert len(report.matched) == len(given)


def test_mixers_with_weights_are_left_out():
    """A teacher with the student's blocks and another mixer, one that learns."""
    task = "semantic-fpn"
    block = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), layer_scale=1.0, out_norm="GN1")
    teacher = model_config(task, "MetaFormer", token_mixers="DepthwiseConv", **block)
    teacher.backbone.pop("arch")
    teacher = build(task, teacher)
    assert any(".token_mixer." in key for key in teacher.state_dict())
    student = build(task, model_config(task, "RIFormer"))
    inherit(student, teacher)
    key = "backbone.stages.2.blocks.1.mlp.fc1.weight"
    assert torch.equal(student.state_dict()[key], teacher.state_dict()[key])


def test_when_weights_are_initialised():
    model = distiller("retinanet", dict(mixer={}), inherit=True)
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(model.student.state_dict()[key], value)
    alone = distiller("retinanet", dict(mixer={}))
    name = "backbone.stages.0.blocks.0.mlp.fc1.weight"
    assert not torch.equal(*(m.state_dict()[name] for m in (alone.student, alone.teacher)))


def test_another_structure():
    arch = dict(depths=(1, 1, 2, 1), dims=(8, 16, 32, 32))
    teacher = model_config("retinanet", "CAFormer", arch=arch)
    teacher.backbone.pop("layer_scale")
    with pytest.raises(DistillationError, match="inherit=True: the teacher, RetinaNet with CAFo"):
        distiller("retinanet", dict(mixer={}), teacher=teacher, inherit=True)


def test_another_number_of_classes():
    teacher = model_config("semantic-fpn", "PoolFormer")
    teacher.decode_head.num_classes = 9
    with pytest.raises(DistillationError, match=r"decode_head: .* of another shape"):
        distiller("semantic-fpn", dict(mixer={}), teacher=teacher, inherit=True)
