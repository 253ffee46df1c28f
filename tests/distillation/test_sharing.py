"""Modules that the student takes from its teacher: frozen, equal bit for bit, its own tensors."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict
from small_pairs import TASKS, batch, build, distiller, model_config, with_batch_norm
from test_training import distillation, training
from two_processes import one_sharing_process, run_processes

from mmplugins import engine
from mmplugins.checks import failures, preflight
from mmplugins.distillation import DistillationError, Distiller, export_student, plain_student

HEADS = {
    "retinanet": ("bbox_head",),
    "mask-rcnn": ("neck", "rpn_head", "roi_head"),
    "semantic-fpn": ("decode_head",),
}


def shared(task, share=None, seed=0, **settings):
    return distiller(
        task,
        student=with_batch_norm(task, "RIFormer"),
        teacher=with_batch_norm(task, "PoolFormer"),
        share=share or HEADS[task],
        seed=seed,
        **settings,
    )


def same(model, other, names):
    """Whether modules of a student are those of a teacher, bit for bit."""
    for name in names:
        theirs = other.get_submodule(name).state_dict()
        for key, value in model.get_submodule(name).state_dict().items():
            assert torch.equal(value, theirs[key]), f"{name}.{key}"
    return True


@pytest.mark.parametrize("inherit", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_all_but_the_shared_modules_learn(task, inherit):
    model, names = shared(task, inherit=inherit), HEADS[task]
    assert same(model.student, model.teacher, names)
    pointers = {p.data_ptr() for p in model.teacher.parameters()}
    assert not pointers & {p.data_ptr() for p in model.student.parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    before = copy.deepcopy(model.student.state_dict())
    for seed in range(2):
        total, _ = model.parse_losses(model(*batch(task, seed=seed), mode="loss"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for name, parameter in model.student.named_parameters():
        within = name.startswith(tuple(f"{n}." for n in names))
        assert parameter.requires_grad != within and (parameter.grad is None) == within, name
        if "backbone" in name:
            assert not torch.equal(parameter, before[name]), name
    assert same(model.student, model.teacher, names)


def test_norms_and_dropouts_stand_still_and_the_head_trains():
    """What a head puts out in training may differ from inference, so it keeps the mode."""
    model = shared("semantic-fpn", ("neck", "decode_head")).train()
    leaves = [m for n in model.share for m in model.student.get_submodule(n).modules()]
    assert model.student.decode_head.training and model.student.backbone.training
    kinds = {type(m).__name__: m.training for m in leaves if not list(m.children())}
    assert kinds["BatchNorm2d"] is kinds["Dropout2d"] is False
    images, samples = batch("semantic-fpn")
    losses = [model(images, samples, mode="loss")["decode.loss_ce"] for _ in range(2)]
    assert torch.equal(*losses)
    model.eval()
    model.train()
    assert same(model.student, model.teacher, model.share) and not any(
        m.training for m in leaves if not list(m.children())
    )


def test_weights_that_are_loaded_do_not_replace_it():
    """Neither PyTorch's way nor mmengine's; without weights of the teacher, those loaded stay."""
    model, other = shared("semantic-fpn"), shared("semantic-fpn", seed=5)
    for load in (torch.nn.Module.load_state_dict, load_state_dict):
        load(model, other.state_dict())
        assert same(model.student, model.teacher, model.share)
        assert same(model.student, other.student, ("backbone",))
    config = dict(
        type="Distiller",
        student=with_batch_norm("semantic-fpn", "RIFormer"),
        teacher=with_batch_norm("semantic-fpn", "PoolFormer"),
        terms=dict(block={}),
        teacher_checkpoint="not_here_at_a_test.pth",
        share=("decode_head",),
    )
    tested = build("semantic-fpn", config)
    tested.load_state_dict(other.state_dict())
    assert same(tested.student, other.student, ("",))


def test_copies_and_averages():
    model = shared("semantic-fpn")
    clone = copy.deepcopy(model).train()
    assert same(clone.student, model.teacher, model.share)
    assert not any(p.requires_grad for p in clone.student.decode_head.parameters())
    average = ExponentialMovingAverage(model, momentum=0.3, update_buffers=True)
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.student.backbone.parameters():
                parameter.add_(1)
        average.update_parameters(model)
    assert same(average.module.student, model.teacher, model.share)


def test_built_models_share_at_once():
    student, teacher = (
        build("retinanet", model_config("retinanet", k)) for k in ("RIFormer", "PoolFormer")
    )
    model = Distiller(student.eval(), teacher, dict(block={}), share="bbox_head")
    assert model.share == ("bbox_head",) and same(student, teacher, model.share)
    assert not student.training


def test_one_name_is_no_list_of_letters():
    assert shared("semantic-fpn", "decode_head").share == ("decode_head",)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (("decode_haed",), r"(?s)no module 'decode_haed'.*Did you mean 'decode_head'.*student: .*"
         r"backbone, neck, decode_head\n  teacher: .*backbone, neck"),
        (("",), "no module ''"),
        (("backbone",), r"token_mixer\.weight: student \[8\], teacher none"),
    ],
)  # fmt: skip
def test_refused_names(share, message):
    with pytest.raises(DistillationError, match=message):
        shared("semantic-fpn", share)


def test_something_must_be_left_to_learn():
    student = with_batch_norm("semantic-fpn", "PoolFormer")
    with pytest.raises(DistillationError, match="leaves the student nothing to learn"):
        distiller(
            "semantic-fpn",
            dict(block={}),
            student=student,
            teacher=copy.deepcopy(student),
            share=("backbone", "neck", "decode_head"),
        )


def test_other_shapes_are_refused():
    teacher = model_config("semantic-fpn", "PoolFormer")
    teacher.decode_head.num_classes = 7
    with pytest.raises(
        DistillationError,
        match=r"(?s)decode_head\.conv_seg\.weight: student \[4, 8, 1, 1\], teacher \[7, 8, 1, 1\]",
    ):
        distiller("semantic-fpn", dict(block={}), teacher=teacher, share=("decode_head",))
    teacher = with_batch_norm("semantic-fpn", "PoolFormer")  # convolutions with norms of their own
    with pytest.raises(
        DistillationError,
        match=r"(?s)gn\.weight: student \[16\], teacher none.*\.\.\. and \d+ more",
    ):
        distiller("semantic-fpn", teacher=teacher, share=("neck", "decode_head"))


def settings(folder, work_dir, steps=3):
    cfg = distillation("semantic-fpn", folder, work_dir, steps)
    cfg.model.share = ("decode_head",)
    cfg.randomness = dict(seed=0)
    return cfg


def test_train_resume_export_test(tmp_path):
    """Two steps and one more after resuming are three; the plain student has the teacher's head."""
    states = []
    for name, parts in (("whole", [3]), ("parts", [2, 3])):
        for steps in parts:
            cfg = settings(tmp_path, name, steps)
            cfg.resume = steps == 3 and len(parts) > 1
            runner = engine.train(copy.deepcopy(cfg))
        model = runner.model
        assert same(model.student, model.teacher, model.share)
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-5)

    checkpoint = Path(cfg.work_dir) / "iter_3.pth"
    folded = plain_student(model)
    assert same(folded, model.teacher, model.share)
    assert all(p.requires_grad for p in folded.parameters())  # it trains on as any other
    weights, _ = export_student(cfg, checkpoint, tmp_path / "student.pth")
    written = torch.load(weights, weights_only=True)["state_dict"]
    for key, value in model.teacher.decode_head.state_dict().items():
        assert torch.equal(written[f"decode_head.{key}"], value)
    plain = training("semantic-fpn", tmp_path, "test")
    plain.model, plain.load_from = cfg.model.student, str(checkpoint)
    assert engine.test(plain)[1]


def test_checks_before_training(tmp_path):
    assert failures(preflight(settings(tmp_path, "checked"))) == []


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_distributed(processes, tmp_path):
    """All learn the same, and keep the teacher's head bit for bit, running statistics included."""
    torch.manual_seed(7)
    teacher = build("semantic-fpn", with_batch_norm("semantic-fpn", "PoolFormer"))
    for buffer in teacher.buffers():
        if buffer.is_floating_point() and buffer.ndim == 1:
            buffer.uniform_(0.5, 1.5)  # statistics that a new head would not have
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    first, *others = run_processes(one_sharing_process, tmp_path, processes)
    for other in others:
        assert any(not torch.equal(v, other["start"][k]) for k, v in first["start"].items())
    for key, value in first["student"].items():
        assert all(torch.equal(value, other["student"][key]) for other in others), key
        if key.startswith(("neck.", "decode_head.")):
            assert torch.equal(value, teacher.state_dict()[key]), key
    for found in (first, *others):
        for key, value in teacher.state_dict().items():
            assert torch.equal(found["teacher"][key], value), key
    for key, gradient in first["gradients"].items():
        assert (gradient is None) == key.startswith(("neck.", "decode_head.")), key
        if gradient is not None:
            for other in others:
                torch.testing.assert_close(gradient, other["gradients"][key])
