"""The lower bound holds the products of its row, each in an equal form."""

from math import prod

import pytest
import torch
import torch.nn.functional as F
from made_up import TINY
from torch import nn

from mmplugins.benchmark.complexity import count_macs
from mmplugins.benchmark.lower_bound import LowerBound, Operation, forms_of, operations_of
from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.stopwatch import Stopwatch
from mmplugins.benchmark.subjects import Subject

CPU = torch.device("cpu")


def macs_of(operation: Operation) -> int:
    first, second = operation.shapes[:2]
    if operation.kind == "attention":
        return 2 * prod(first) * second[2]
    if operation.kind == "product":
        return prod(first) * second[2]
    if operation.kind == "linear":
        return prod(first) * second[0]
    out = forms_of(operation, CPU)["contiguous"]()
    if operation.settings[3]:
        return prod(first) * prod(second[1:])
    return out.numel() * prod(second[1:])


@pytest.mark.parametrize(
    "row",
    [
        "poolformer_s12:deploy", "caformer_s18:channels_last", "randformer_s12",
        "convnext_tiny:bf16", "timm/resnet18",
        "configs/semantic_fpn/semantic-fpn_shapes.py", "configs/mask_rcnn/mask-rcnn_shapes.py",
    ],
)  # fmt: skip
def test_the_bound_has_all_products_of_the_row(row):
    ours = "/" not in row
    subject = Subject(parse_row(row), **(dict(arch=TINY) if ours else {}))
    operations = operations_of(subject, subject.images((64, 96)))
    found = sum(macs_of(operation) * count for operation, count in operations.items())
    counted = count_macs(subject.model, (64, 96))
    if "mask_rcnn" not in row:
        assert found == counted.total
    else:  # fewer regions than counted with are found on so small an image
        assert counted.by_part["backbone"] < found <= counted.total
    dtype = torch.bfloat16 if "bf16" in row else torch.float32
    assert {operation.dtype for operation in operations} == {dtype}


class Ops(nn.Module):
    """One operation of each kind."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.pointwise = nn.Conv2d(8, 6, 1)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.linear = nn.Linear(4, 5)

    def forward(self, x):
        x = self.up(self.pointwise(self.grouped(self.strided(x))))
        x = self.linear(x.permute(0, 2, 3, 1)).flatten(1, 2)
        x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]
        return (x.transpose(1, 2) @ x,)


@pytest.fixture
def operations(monkeypatch):
    monkeypatch.setattr("mmplugins.benchmark.subjects.build_model", lambda *_: Ops())
    subject = Subject(parse_row("ops"))
    return operations_of(subject, subject.images((12, 16)))


def test_every_kind_is_noted(operations):
    kinds = sorted(operation.kind for operation in operations.elements())
    assert kinds == sorted(["convolution"] * 3 + ["linear"] * 2 + ["product", "attention"])
    linear = [o for o in operations if o.kind == "linear"]
    assert {o.shapes for o in linear} == {
        ((1, 8, 6, 8), (6, 8, 1, 1)),
        ((1, 4, 192, 1), (5, 4, 1, 1)),
    }
    assert sum(o.bias for o in operations) == 3  # a linear layer of a 4-D map adds its own apart


def test_all_forms_of_an_operation_agree(operations):
    for operation in operations:
        found = {name: run() for name, run in forms_of(operation, CPU).items()}
        reference = next(iter(found.values()))
        for name, value in found.items():
            if name == "linear":
                value = value.reshape(reference.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
            torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-4, msg=name)
        expected = {"convolution": {"contiguous", "channels_last"}, "linear": {"linear"}}
        assert expected.get(operation.kind, set()) <= set(found)


def test_floor_runs_each_operation_as_often_as_the_row(operations, monkeypatch):
    runs = []
    monkeypatch.setattr(
        "mmplugins.benchmark.lower_bound.forms_of",
        lambda operation, device: {"only": lambda: runs.append(operation)},
    )
    operations = operations + operations
    lower_bound = LowerBound(operations, CPU)
    assert set(lower_bound.chosen.values()) == {"only"}
    runs.clear()
    watch = Stopwatch()
    watch.start()
    lower_bound.run(watch)
    assert {o: runs.count(o) for o in operations} == dict(operations)
    assert set(watch.stop()) == {"lower_bound"}


def test_the_fastest_form_is_taken(operations, monkeypatch):
    now = [0.0]

    def forms(operation, device):
        def run(seconds):
            return lambda: now.__setitem__(0, now[0] + seconds)

        return {"slow": run(3.0), "fast": run(1.0), "middling": run(2.0)}

    monkeypatch.setattr("mmplugins.benchmark.lower_bound.forms_of", forms)
    monkeypatch.setattr(
        "mmplugins.benchmark.lower_bound.Stopwatch", lambda device: Stopwatch(clock=lambda: now[0])
    )
    assert set(LowerBound(operations, CPU).chosen.values()) == {"fast"}


def test_compiled_rows_are_refused():
    subject = Subject(parse_row("poolformer_s12"), arch=TINY)
    subject.compiled = True
    with pytest.raises(ValueError, match="compiled"):
        operations_of(subject, subject.images((32, 32)))
