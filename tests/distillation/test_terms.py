"""Weights over time, and the terms of maps recomputed from what hooks of the test's own saw."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.logging import MessageHub
from small_pairs import Recorder, batch, distiller, model_config

from mmplugins.distillation import DistillationError
from mmplugins.distillation.terms import MixerImitation

TASK = "semantic-fpn"
BLOCKS = [f"backbone.stages.{i}.blocks.{j}" for i, j in [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0)]]
MIXERS = [f"{block}.token_mixer" for block in BLOCKS]


def square(a, b):
    return sum(((x - y) ** 2).sum().item() for x, y in zip(a, b, strict=True)) / a.numel()


def losses_and_records(model, *names):
    records = Recorder(model.student, *names), Recorder(model.teacher, *names)
    losses = model(*batch(TASK), mode="loss")
    return losses, *records


@pytest.mark.parametrize(("term", "names"), [("mixer", MIXERS), ("block", BLOCKS)])
def test_module_imitation(term, names):
    model = distiller(TASK, {term: dict(weight=0.5)})
    losses, ours, theirs = losses_and_records(model, *names)
    expected = 0.5 * sum(square(ours[name], theirs[name]) for name in names)
    assert losses[f"loss_distill_{term}"].item() == pytest.approx(expected, rel=1e-4)


def test_the_mixers_output_is_after_the_norm_and_before_the_shortcut():
    """The student's is the affine map of the normed input, minus it; the teacher's is pooling."""
    model = distiller(TASK, dict(mixer=dict(stages=(0,))))
    losses, ours, theirs = losses_and_records(model, "backbone.stem")
    values = []
    for network, records in ((model.student, ours), (model.teacher, theirs)):
        block = network.backbone.stages[0].blocks[0]
        normed = torch.nn.functional.group_norm(
            records["backbone.stem"], 1, block.norm1.weight, block.norm1.bias, 1e-5
        )
        if network is model.student:
            affine = block.token_mixer
            scaled = affine.weight.view(1, -1, 1, 1) * normed + affine.bias.view(1, -1, 1, 1)
        else:
            scaled = torch.nn.functional.avg_pool2d(normed, 3, 1, 1, count_include_pad=False)
        values.append(scaled - normed)
    expected = square(*values)
    assert losses["loss_distill_mixer"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("of", ["mixer", "block"])
def test_relation(of):
    names = MIXERS if of == "mixer" else BLOCKS
    model = distiller(TASK, dict(relation=dict(of=of)))
    losses, ours, theirs = losses_and_records(model, *names)
    expected = 0.0
    for name in names:
        relations = []
        for records in (ours, theirs):
            x = torch.nn.functional.adaptive_avg_pool2d(
                records[name], [min(side, 14) for side in records[name].shape[-2:]]
            )
            unit = x.flatten(2) / x.flatten(2).norm(dim=1, keepdim=True)
            relations.append(torch.einsum("ncp,ncq->npq", unit, unit))
        expected += square(*relations)
    assert losses["loss_distill_relation"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("of", ["backbone", "neck"])
def test_pyramid(of):
    model = distiller(TASK, dict(pyramid=dict(of=of)))
    losses, ours, theirs = losses_and_records(model, of)
    expected = sum(square(a, b) for a, b in zip(ours[of], theirs[of], strict=True))
    assert losses["loss_distill_pyramid"].item() == pytest.approx(expected, rel=1e-4)


def test_unequal_depths_and_widths():
    arch = dict(depths=(1, 2, 3, 1), dims=(16, 16, 48, 32))
    teacher = model_config(TASK, "PoolFormer", arch=arch)
    model = distiller(TASK, dict(mixer={}), teacher=teacher)
    names = [f"backbone.stages.{i}.blocks.{j}.token_mixer" for i, j in ((1, 1), (2, 1), (2, 2))]
    names = [MIXERS[0], *names, MIXERS[4]]
    ours, theirs = Recorder(model.student, *MIXERS), Recorder(model.teacher, *names)
    losses = model(*batch(TASK), mode="loss")
    expected = 0.0
    for a, b, projection in zip(MIXERS, names, model.terms.mixer.projections, strict=True):
        x = ours[a]
        if x.shape[1] != theirs[b].shape[1]:
            assert projection.weight.shape == (theirs[b].shape[1], x.shape[1], 1, 1)
            weight, bias = projection.weight[:, :, 0, 0], projection.bias
            x = torch.einsum("oi,nihw->nohw", weight, x) + bias.view(1, -1, 1, 1)
        expected += square(x, theirs[b])
    assert losses["loss_distill_mixer"].item() == pytest.approx(expected, rel=1e-4)
    assert sum(p.numel() for p in model.terms.parameters()) == 8 * 16 + 16 + 2 * (24 * 48 + 48)


def test_odd_sizes_are_resampled():
    """ConvNeXt's patches round down where RIFormer's convolutions round up."""
    settings = dict(arch=dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)))
    teacher = model_config(TASK, "ConvNeXt", **settings)
    model = distiller(TASK, dict(block={}, pixel_scores={}), teacher=teacher)
    images, samples = batch(TASK)
    losses = model(images[..., :63, :61].contiguous(), samples, mode="loss")
    assert all(losses[f"loss_distill_{name}"].isfinite() for name in ("block", "pixel_scores"))


def test_weight_over_time():
    term = MixerImitation(2.0, warmup=4)
    assert [term.factor(i) for i in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    term = MixerImitation(2.0, decay="linear")
    assert [term.factor(i, 4) for i in range(6)] == [2.0, 1.5, 1.0, 0.5, 0.0, 0.0]
    assert term.factor(3) == 2.0  # no runner tells the end
    term = MixerImitation(1.0, warmup=2, decay="cosine", until=6)
    values = [term.factor(i, 100) for i in range(8)]
    assert values[:2] == [0.5, 1.0]
    assert values[2:] == pytest.approx(
        [(1 + math.cos(math.pi * k / 4)) / 2 for k in (0, 1, 2, 3, 4)] + [0.0], abs=1e-12
    )


def test_the_weight_follows_the_runners_iteration():
    model = distiller(TASK, dict(mixer=dict(weight=3.0, warmup=10, decay="linear")))
    hub = MessageHub.get_current_instance()
    values = []
    try:
        for iteration in (0, 4, 60, 110):
            hub.update_info("iter", iteration)
            hub.update_info("max_iters", 110)
            values.append(model(*batch(TASK), mode="loss")["loss_distill_mixer"].item())
    finally:
        hub.runtime_info.clear()
    full = values[0] * 10
    assert values == pytest.approx([0.1 * full, 0.5 * full, 0.5 * full, 0.0], rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(mixer=dict(weight=-1)), "weight=-1"),
        (dict(mixer=dict(decay="exp")), "'linear', 'cosine' or None"),
        (dict(mixer=dict(until=10)), "and a decay"),
        (dict(mixer=dict(warm_up=10)), "unexpected keyword argument 'warm_up'"),
        (dict(relation=dict(of="neck")), "expected 'mixer' or 'block'"),
        (dict(relation=dict(side=0)), "side=0: expected positions"),
        (dict(pyramid=dict(of="head")), "expected 'backbone' or 'neck'"),
        (dict(pyramid=dict(stages=(2, 3))), "pyramid takes no stages"),
        (dict(Mixer={}), "unknown term 'Mixer'.*Did you mean 'mixer'"),
        ({}, "terms is empty"),
        (dict(block=dict(blocks=[("backbone.stem", "backbone.stages.1")])), r"\[1, 8, 16, 16\]"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(DistillationError, match=message):
        distiller(TASK, settings)


def test_another_number_of_levels():
    teacher = model_config("retinanet", "PoolFormer", out_indices=(0, 1, 2, 3))
    teacher.neck.in_channels = [8, 16, 24, 32]
    teacher.neck.start_level = 1
    with pytest.raises(DistillationError, match="put out 3 and 4 maps(.|\n)*out_indices"):
        distiller("retinanet", dict(pyramid={}), teacher=teacher)
