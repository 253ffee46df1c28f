"""Compiling the backbone only; what it computes then is in test_training_options.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.model import BaseTTAModel
from torch import nn

from mmplugins.deployment import reparameterize
from mmplugins.engine import CompileBackboneHook


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 1), nn.Linear(1, 1)

    def test_step(self, data):
        raise NotImplementedError


class Augmented(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        raise NotImplementedError


@pytest.mark.parametrize("wrap", [lambda model: model, Augmented])
def test_the_backbone_alone_is_compiled(wrap):
    model = Model()
    CompileBackboneHook().before_run(SimpleNamespace(model=wrap(model)))
    compiled = [name for name, part in model.named_modules() if part._compiled_call_impl]
    assert compiled == ["backbone"]


def test_weights_are_frozen_in_tests_of_the_deployed_form_only():
    model = Model().eval()
    runner, hook = SimpleNamespace(model=model), CompileBackboneHook(freeze=True)
    hook.before_run(runner)
    assert not hook._compiler.freeze
    with pytest.raises(ValueError, match="deploy the model first"):
        hook.before_test(runner)
    reparameterize(model)
    hook.before_test(runner)
    assert hook._compiler.freeze


def test_what_cannot_be_compiled():
    with pytest.raises(ValueError, match="Linear has no part called backbone"):
        CompileBackboneHook().before_run(SimpleNamespace(model=nn.Linear(1, 1)))
