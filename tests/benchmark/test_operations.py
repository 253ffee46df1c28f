"""Time by kind of operation, on a clock that moves one second at every look."""

import itertools

import pytest
import torch
from made_up import TINY
from torch import nn

from mmplugins.backbones.catalog import families
from mmplugins.benchmark.operations import KINDS, OTHER, by_operation, kind_of
from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.session import TrainingStep
from mmplugins.benchmark.stopwatch import Stopwatch
from mmplugins.benchmark.subjects import Subject

SMALLEST = [f"{family}_{next(iter(cls.variants))}" for family, cls in families().items()]
VIEWS = {"view", "permute", "t", "transpose", "expand", "unsqueeze", "squeeze", "select", "slice"}
VIEWS |= {"split", "split_with_sizes", "unbind"}


def laps(run):
    """How many operations of each kind ran: each takes one second, the same as a call."""
    watch = Stopwatch(clock=itertools.count().__next__)
    watch.start()
    by_operation(run)(watch)
    return watch.stop()


def test_every_operator_is_one_lap_of_its_kind():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.GELU(), nn.AvgPool2d(2), nn.Conv2d(8, 4, 1)
    ).eval()
    image = torch.rand(1, 3, 10, 10)
    with torch.no_grad():
        found = laps(lambda _: model(image).add_(1).clone())
    assert found.pop("calls") == 8  # before each operation, and behind the last
    assert found == {
        name: 1
        for name in (
            "convolutions", "norms, sums", "activations", "pooling", "pointwise", "by element",
            "copies",
        )
    }  # fmt: skip


def test_the_backward_pass_of_a_convolution_is_of_the_kind_of_the_convolution():
    image = torch.rand(1, 3, 8, 8)
    for side, kind in ((1, "pointwise"), (3, "convolutions")):
        layer = nn.Conv2d(3, 4, side)
        assert laps(lambda _, layer=layer: layer(image).sum().backward())[kind] == 2


def test_laps_of_the_work_itself_are_not_taken():
    assert set(laps(lambda watch: watch.lap("forward"))) == {"calls"}


def test_no_operator_is_of_two_kinds():
    names = [name for operators in KINDS.values() for name in operators.split()]
    assert len(names) == len(set(names))
    assert kind_of("no_such_operator", ()) == OTHER


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("option", ["", ":deploy"])
def test_all_work_of_a_backbone_has_a_kind(name, option, monkeypatch):
    """Only operators that do next to nothing are left to ``other``."""
    others = set()

    def noting(name, args):
        kind = kind_of(name, args)
        if kind == OTHER and name not in VIEWS:
            others.add(name)
        return kind

    monkeypatch.setattr("mmplugins.benchmark.operations.kind_of", noting)
    subject = Subject(parse_row(name + option), arch=TINY)
    images = subject.images((64, 64))
    run = (lambda _: subject.infer(images)) if option else TrainingStep(subject, images)
    run(Stopwatch())  # packs weights
    found = laps(run)
    assert others <= {
        "detach", "any", "_local_scalar_dense", "empty", "empty_like",
        "new_empty", "_unsafe_view", "rand", "empty_strided", "new_empty_strided", "resize_",
        "as_strided", "promote_types", "stride", "empty_permuted", "lift_fresh",
        "_record_function_enter_new", "_record_function_exit",
    }  # fmt: skip
    assert found["pointwise"] and found["convolutions"]
    assert option or found["optimizer"] <= 2  # counting steps, and all else in one
