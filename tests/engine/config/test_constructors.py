"""What a config's type stands for, and what it takes."""

from __future__ import annotations

import pytest
from mmengine.registry import MODELS
from torch import nn

from mmplugins.backbones import PoolFormer
from mmplugins.engine.config.constructors import accepted_arguments, class_of


@pytest.mark.parametrize(
    ("config", "scope", "expected"),
    [
        (dict(type="PoolFormer"), None, "PoolFormer"),
        (dict(type=PoolFormer), None, "PoolFormer"),
        (dict(type="RetinaNet"), "mmdet", "RetinaNet"),
        (dict(type="RetinaNet", _scope_="mmdet"), "mmseg", "RetinaNet"),
        (dict(type="torch.nn.Linear"), None, "Linear"),
        (dict(type="RetinaNet"), "mmengine", None),
        (dict(type="torch.nn.Liner"), None, None),
        (dict(type="../x"), None, None),
        (dict(type=7), None, None),
        (dict(), None, None),
    ],
)
def test_class_of(config, scope, expected):
    assert getattr(class_of(MODELS, config, scope), "__name__", None) == expected


def test_arguments_are_looked_up_through_those_that_are_handed_on():
    class Base(nn.Module):
        def __init__(self, depth, **unused):
            super().__init__()

    class Open(Base):
        def __init__(self, width, *args, **kwargs):
            super().__init__(*args, **kwargs)

    class Closed(Open):
        def __init__(self, colour):
            super().__init__(1, depth=1)

    assert accepted_arguments(Open) == {"width", "depth"}
    assert accepted_arguments(Closed) == {"colour"}
    assert accepted_arguments(lambda a, b: a) == {"a", "b"}
    assert accepted_arguments(None) == set()
