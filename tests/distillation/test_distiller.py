"""The wrapper: who learns, who does not, and what is left of the teacher outside of the loss."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from small_pairs import SCORES, TASKS, Recorder, batch, build, distiller, model_config

from mmplugins.distillation import DistillationError, Distiller

EVERYTHING = ("mixer", "block", "relation", "pyramid")


def all_terms(task):
    return {name: {} for name in (*EVERYTHING, SCORES[task])}


def backward(model, task, *, amp=False):
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        losses = model(*batch(task), mode="loss")
    total, logged = model.parse_losses(losses)
    total.backward()
    return {name: value.item() for name, value in logged.items()}


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_gradients_reach_the_student_and_no_teacher(task, amp):
    arch = dict(depths=(1, 1, 3, 1), dims=(8, 16, 32, 32))
    teacher = model_config(task, "PoolFormer", arch=arch)
    model = distiller(task, all_terms(task), teacher=teacher)
    before = copy.deepcopy(model.teacher.state_dict())
    logged = backward(model, task, amp=amp)
    names = dict(model.named_parameters())
    assert [name for name, p in names.items() if p.grad is None] == []
    # In one step, a mask head may see no picture of a class, a ReLU may be dead; the backbone not.
    still = [n for n, p in names.items() if "backbone" in n and not p.grad.abs().sum() > 0]
    assert still == []
    assert any(name.startswith("terms.mixer.projections") for name in names)
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert not model.teacher.training and not any(m.training for m in model.teacher.modules())
    for name in all_terms(task):
        assert 0 < logged[f"loss_distill_{name}"] < float("inf")


@pytest.mark.parametrize("task", TASKS)
def test_own_losses_are_those_of_the_student_alone(task):
    model = distiller(task, all_terms(task))
    alone = copy.deepcopy(model.student)
    torch.manual_seed(1)
    expected = alone(*batch(task), mode="loss")
    torch.manual_seed(1)
    losses = model(*batch(task), mode="loss")
    assert {name for name in losses if not name.startswith("loss_distill_")} == set(expected)
    for name, value in expected.items():
        assert torch.equal(
            torch.stack([*map(torch.as_tensor, _list(value))]),
            torch.stack([*map(torch.as_tensor, _list(losses[name]))]),
        ), name


def _list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("task", TASKS)
def test_one_forward_pass_of_the_teacher(task):
    model = distiller(task, all_terms(task))
    head = {"retinanet": "bbox_head", "semantic-fpn": "decode_head.conv_seg"}.get(
        task, "roi_head.bbox_head"
    )
    counts = Recorder(model.teacher, "backbone", "neck", head)
    backward(model, task)
    assert {name: len(calls) for name, calls in counts.outputs.items()} == {
        "backbone": 1,
        "neck": 1,
        head: 1,
    }
    model.eval()
    with torch.no_grad():
        model(*batch(task), mode="predict")
    assert len(counts.outputs["backbone"]) == 1


@pytest.mark.parametrize("amp", [False, True])
def test_recomputation_changes_nothing(amp):
    """With with_cp, blocks run again in the backward pass, and nothing is captured twice."""
    gradients = []
    for with_cp in (False, True):
        student = model_config("semantic-fpn", "RIFormer", with_cp=with_cp)
        model = distiller("semantic-fpn", all_terms("semantic-fpn"), student=student)
        calls = Recorder(model.student, "backbone.stages.2.blocks.1.token_mixer")
        torch.manual_seed(1)
        losses = backward(model, "semantic-fpn", amp=amp)
        (outputs,) = calls.outputs.values()
        assert len(outputs) == 1 + with_cp
        gradients.append((losses, {n: p.grad for n, p in model.named_parameters()}))
    (losses, plain), (again, recomputed) = gradients
    assert losses == pytest.approx(again, rel=1e-6)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_state_dict_is_that_of_the_plain_model(task):
    model = distiller(task, all_terms(task))
    plain = build(task, model_config(task, "RIFormer"))
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    other = distiller(task, all_terms(task), seed=5)
    other.load_state_dict(model.state_dict())
    for key, value in model.student.state_dict().items():
        assert torch.equal(plain.state_dict()[key], value)
        assert torch.equal(other.student.state_dict()[key], value)


def test_projections_are_kept_beside_it():
    arch = dict(depths=(1, 1, 2, 1), dims=(16, 16, 24, 32))
    settings = dict(
        terms=dict(mixer={}), teacher=model_config("retinanet", "PoolFormer", arch=arch)
    )
    model = distiller("retinanet", **settings)
    own = [key for key in model.state_dict() if key.startswith("terms.")]
    assert own == [f"terms.mixer.projections.0.{name}" for name in ("weight", "bias")]
    other = distiller("retinanet", **settings, seed=5)
    result = other.load_state_dict(model.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(*(m.terms.mixer.projections[0].weight for m in (model, other)))


def test_mmengines_loader_and_averages():
    """It walks through the modules itself; an average then has one more prefix."""
    from mmengine.runner.checkpoint import get_state_dict, load_state_dict

    model, other = (distiller("semantic-fpn", seed=seed) for seed in (0, 5))
    state = get_state_dict(model)
    assert list(state) == list(model.state_dict())
    load_state_dict(other, state, strict=True)
    average = ExponentialMovingAverage(model, momentum=0.5, update_buffers=True)
    assert all(not key.startswith("module.student") for key in average.state_dict())
    assert average.module.teacher is model.teacher
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    before = copy.deepcopy(model.teacher.state_dict())
    for _ in range(2):  # the first update copies
        average.update_parameters(model)
    first = next(iter(model.student.parameters()))
    assert torch.equal(next(iter(average.module.student.parameters())), first)
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())


def test_the_teacher_is_no_part_of_the_model():
    model = distiller("retinanet")
    teacher = {id(p) for p in model.teacher.parameters()}
    assert not teacher & {id(p) for p in model.parameters()}
    assert not any(module is model.teacher for module in model.modules())
    assert len(list(model.parameters())) == len(list(model.student.parameters()))
    model.eval().train()
    assert not model.teacher.training and model.student.training


def test_the_teacher_moves_with_the_model():
    model = distiller("semantic-fpn")
    assert {p.dtype for p in model.half().teacher.parameters()} == {torch.float16}
    model.float()
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float32}
    model.to(memory_format=torch.channels_last)
    weight = model.teacher.neck.fpn_convs[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_deep_copies():
    model = distiller("semantic-fpn", all_terms("semantic-fpn"))
    clone = copy.deepcopy(model)
    assert clone.teacher is model.teacher and clone.student is not model.student
    torch.manual_seed(1)
    expected = backward(model, "semantic-fpn")
    torch.manual_seed(1)
    assert backward(clone, "semantic-fpn") == expected
    clone.to(torch.float64)
    assert clone.teacher is not model.teacher
    assert {p.dtype for p in clone.teacher.parameters()} == {torch.float64}
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float32}
    unpickled = pickle.loads(pickle.dumps(model))
    torch.manual_seed(1)
    assert backward(unpickled, "semantic-fpn") == expected


def test_everything_else_is_the_students():
    model = distiller("semantic-fpn").eval()
    images, samples = batch("semantic-fpn")
    assert torch.equal(model(images, samples), model.student(images, samples))
    data = dict(inputs=[(image * 50 + 100).byte() for image in images], data_samples=samples)
    ours, theirs = (m.test_step(copy.deepcopy(data)) for m in (model, model.student))
    assert torch.equal(ours[0].pred_sem_seg.data, theirs[0].pred_sem_seg.data)
    assert model.data_preprocessor is model.student.data_preprocessor
    assert model.out_channels == 4 and model.decode_head is model.student.decode_head
    with pytest.raises(AttributeError):
        _ = model.nose


def test_no_loss_before_the_teacher_has_weights():
    config = dict(
        student=model_config("semantic-fpn", "RIFormer"),
        teacher=model_config("semantic-fpn", "PoolFormer"),
        terms=dict(mixer={}),
        teacher_checkpoint="teacher.pth",
    )
    model = build("semantic-fpn", dict(type="Distiller", **config))
    with pytest.raises(DistillationError, match="init_weights"):
        model(*batch("semantic-fpn"), mode="loss")
    with pytest.raises(DistillationError, match="'teacher.pth' does not exist"):
        model.init_weights()


def test_built_models_serve():
    student, teacher = (
        build("retinanet", model_config("retinanet", k)) for k in ("RIFormer", "PoolFormer")
    )
    model = Distiller(student, teacher, dict(anchor_scores={}))
    assert backward(model.train(), "retinanet")["loss_distill_anchor_scores"] > 0


def test_on_the_meta_device():
    with torch.device("meta"):
        model = build(
            "retinanet",
            dict(
                type="Distiller",
                student=model_config("retinanet", "RIFormer"),
                teacher=model_config("retinanet", "PoolFormer"),
                terms=all_terms("retinanet"),
                untrained_teacher=True,
            ),
        )
    assert all(p.is_meta for p in model.parameters())
