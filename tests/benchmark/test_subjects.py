"""Rows made into models: what is compiled of them."""

import pytest

from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.subjects import Subject


def compiled_parts(subject: Subject) -> list[str]:
    return [name for name, part in subject.model.named_modules() if part._compiled_call_impl]


def test_ours_are_compiled_by_block_and_never_go_on_eager_unnoticed():
    subject = Subject(parse_row("poolformer_s12:deploy,compile"))
    subject.compile()
    depths = (2, 2, 6, 2)
    assert subject.compiled and compiled_parts(subject) == [
        f"stages.{stage}.blocks.{i}" for stage, depth in enumerate(depths) for i in range(depth)
    ]
    subject._compiler.failed = True
    with pytest.raises(RuntimeError, match="poolformer_s12:deploy,compile: the compiler failed"):
        subject.infer(subject.images((32, 32)))


def test_ours_with_frozen_weights_are_one_graph():
    subject = Subject(parse_row("poolformer_s12:freeze"))
    subject.compile()
    assert compiled_parts(subject) == [""] and subject._compiler.freeze


def test_others_are_compiled_whole(monkeypatch):
    given = []
    monkeypatch.setattr("torch.compile", lambda function, **settings: given.append(settings))
    subject = Subject(parse_row("timm/poolformer_s12:compile"))
    subject.compile()
    assert subject.compiled and given == [dict(dynamic=False)] and not compiled_parts(subject)
