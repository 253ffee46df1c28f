import pytest
import torch
import torchvision
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss


def batch(dtype=torch.float64, ignore=5):
    """Logits of 8 samples and 5 classes; the last two targets are ``ignore``."""
    logits = (torch.randn(8, 5, dtype=dtype) * 3).requires_grad_()
    return logits, torch.tensor([0, 1, 2, 3, 4, 2, ignore, ignore])


def sigmoid_definition(logits, target, gamma, alpha, weight):
    p = logits.sigmoid()
    is_target = torch.nn.functional.one_hot(target, 6)[:, :5].bool()
    p_t = torch.where(is_target, p, 1 - p)
    alpha_t = torch.where(is_target, alpha, 1 - alpha)
    by_sample = torch.cat([weight, weight.new_ones(1)])[target]
    return -alpha_t * (1 - p_t) ** gamma * p_t.log() * by_sample[:, None]


@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.0, 0.5), (1.5, 0.75)])
@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_equals_the_definition(gamma, alpha, weighted):
    logits, target = batch()
    weight = torch.rand(5, dtype=torch.float64) + 0.5 if weighted else None
    definition = sigmoid_definition(
        logits, target, gamma, alpha, logits.new_ones(5) if weight is None else weight
    )
    for reduction, expected in (
        ("none", definition),
        ("sum", definition.sum()),
        ("mean", definition.sum() / 8),
    ):
        loss = sigmoid_focal_loss(logits, target, gamma, alpha, weight, reduction)
        torch.testing.assert_close(loss, expected)
        upstream = torch.rand_like(loss)
        torch.testing.assert_close(
            torch.autograd.grad(loss, logits, upstream)[0],
            torch.autograd.grad(expected, logits, upstream, retain_graph=True)[0],
        )
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, target, gamma, alpha, weight, "none"), (logits,)
    )


def test_sigmoid_equals_torchvision_at_large_logits():
    logits = torch.tensor([[30.0, -30.0], [80.0, -80.0]], requires_grad=True)
    target = torch.tensor([1, 0])
    loss = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "sum")
    one_hot = torch.nn.functional.one_hot(target, 2).float()
    expected = torchvision.ops.sigmoid_focal_loss(logits, one_hot, reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)
    )


def softmax_definition(logits, target, gamma, alpha, weight):
    known = target >= 0
    p = logits.softmax(1)[known].gather(1, target[known, None])[:, 0]
    return (-alpha * (1 - p) ** gamma * p.log() * weight[target[known]]).sum()


@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.0, 0.5), (0.5, 0.75)])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_equals_the_definition(gamma, alpha, weighted):
    logits, target = batch(ignore=-1)
    weight = torch.rand(5, dtype=torch.float64) + 0.5 if weighted else None
    known = logits.new_ones(5) if weight is None else weight
    expected = softmax_definition(logits, target, gamma, alpha, known)
    for reduction, factor in (("sum", 1), ("mean", 1 / 8)):
        loss = softmax_focal_loss(logits, target, gamma, alpha, weight, reduction)
        torch.testing.assert_close(loss, expected * factor)
        torch.testing.assert_close(
            torch.autograd.grad(loss, logits)[0],
            torch.autograd.grad(expected * factor, logits, retain_graph=True)[0],
        )
    samples = softmax_focal_loss(logits, target, gamma, alpha, weight, "none")
    torch.testing.assert_close(samples.sum(), expected)
    assert samples[-2:].eq(0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_gradient_is_finite_at_certainty(gamma):
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0]], requires_grad=True)
    softmax_focal_loss(logits, torch.tensor([0, 1]), gamma, 0.25, None, "sum").backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0].abs().max() < 1e-6 < logits.grad[1].abs().max()


@pytest.mark.parametrize("loss", [sigmoid_focal_loss, softmax_focal_loss])
def test_half_is_computed_in_single(loss):
    logits, target = batch(torch.float32, ignore=1)
    logits = logits.detach().half().requires_grad_()
    value = loss(logits, target, 2.0, 0.25, None, "sum")
    value.backward()
    single = logits.detach().float().requires_grad_()
    expected = loss(single, target, 2.0, 0.25, None, "sum")
    expected.backward()
    assert value.dtype == logits.grad.dtype == torch.float16
    torch.testing.assert_close(value.float(), expected, rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(logits.grad.float(), single.grad, rtol=5e-3, atol=5e-3)


def test_no_samples():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, "sum")
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, 5)
