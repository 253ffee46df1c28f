import pytest
import torch
from torch import nn

from mmplugins.deployment import largest_difference, raw_outputs


def test_difference_is_relative_to_the_largest_value_of_each_output():
    expected = [torch.tensor([100.0, 1.0]), torch.tensor([0.1])]
    outputs = [torch.tensor([100.0, 2.0]), torch.tensor([0.1])]
    assert largest_difference(outputs, expected) == pytest.approx(0.01)
    outputs = [expected[0], torch.tensor([0.2])]
    assert largest_difference(outputs, expected) == pytest.approx(1.0)
    assert largest_difference(expected, expected) == 0


def test_other_shapes_and_values_are_named():
    with pytest.raises(ValueError, match="shapes"):
        largest_difference([torch.zeros(2)], [torch.zeros(3)])
    with pytest.raises(ValueError, match="not finite"):
        largest_difference([torch.tensor([torch.nan])], [torch.zeros(1)])


def test_plain_module_gives_its_output():
    model = nn.Conv2d(3, 4, 1)
    x = torch.randn(1, 3, 8, 8)
    (out,) = raw_outputs(model, x)
    assert torch.equal(out, model(x))
