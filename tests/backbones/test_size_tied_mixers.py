"""Random mixing, spatial FC and sparse MLP against their formulas written with einsum and F."""

import pytest
import torch
import torch.nn.functional as F

from mmplugins.backbones.metaformer import MetaFormerBlock
from mmplugins.backbones.size_tied_mixers import RandomMixing, SparseMLP, SpatialFC

MIXERS = (RandomMixing, SpatialFC, SparseMLP)
POLICIES = ("window", "resample")
DIM, SIDE = 5, 4


def batch_norm(x, norm, training):
    """Normalisation over N, H, W by the batch or by the running statistics."""
    mean = x.mean((0, 2, 3)) if training else norm.running_mean
    var = x.var((0, 2, 3), correction=0) if training else norm.running_var
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return x * norm.weight[:, None, None] + norm.bias[:, None, None]


def sparse_mlp(x, mixer, rows_and_columns, training=False):
    """The token mixing of sMLPNet, with the mixing of rows and columns left open."""
    x = F.gelu(batch_norm(x, mixer.norm1, training))
    x = F.conv2d(x, mixer.depthwise.weight, padding=1, groups=x.shape[1])
    z = F.gelu(batch_norm(x, mixer.norm2, training))
    z = torch.cat([z, *rows_and_columns(z)], dim=1)
    return torch.einsum("oc,nchw->nohw", mixer.fuse.weight[:, :, 0, 0], z)


def rows_and_columns(z, mixer):
    rows = torch.einsum("jk,ncik->ncij", mixer.row.weight, z) + mixer.row.bias
    columns = torch.einsum("ik,nckj->ncij", mixer.column.weight, z)
    return rows, columns + mixer.column.bias[:, None]


def randomised(module):
    """A module whose norms, too, have weights and statistics of their own."""
    torch.manual_seed(1)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand_like(tensor) * 0.8 + 0.3)
            if tensor.ndim > 1:
                tensor.data.sub_(0.7)
    return module.double().eval()


@pytest.fixture
def draw():
    torch.manual_seed(0)
    return lambda *size: torch.randn(2, DIM, *size, dtype=torch.float64)


def test_random_matrix_is_a_frozen_softmax_of_uniform_numbers():
    mixer = RandomMixing(DIM, 14)
    matrix = mixer.random_matrix
    assert matrix.shape == (196, 196) and not matrix.requires_grad
    assert list(mixer.state_dict()) == ["random_matrix"]
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(196))
    # Entries of a row are e^u up to a common factor, so logs differ by less than 1, evenly spread.
    spread = matrix.log() - matrix.log().amin(dim=1, keepdim=True)
    assert 0.95 < spread.max() < 1
    assert abs(spread.mean().item() - 0.5) < 0.02 and abs(spread.std().item() - 12**-0.5) < 0.01


@pytest.mark.parametrize("policy", POLICIES)
def test_whole_map_mixers_at_the_training_size(draw, policy):
    x = draw(SIDE, SIDE)
    for mixer in (RandomMixing(DIM, SIDE, policy), SpatialFC(DIM, SIDE, policy)):
        (weight,) = mixer.double().parameters()
        expected = torch.einsum("mn,bcn->bcm", weight, x.flatten(2)).unflatten(2, (SIDE, SIDE))
        torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("training", [True, False])
def test_sparse_mlp_at_the_training_size(draw, policy, training):
    mixer = randomised(SparseMLP(DIM, SIDE, policy)).train(training)
    x = draw(SIDE, SIDE)
    expected = sparse_mlp(x, mixer, lambda z: rows_and_columns(z, mixer), training)
    torch.testing.assert_close(mixer(x), expected)


def test_sparse_mlp_windows_are_stretches_of_rows_and_columns(draw):
    mixer = randomised(SparseMLP(DIM, SIDE, "window"))

    def by_window(z):
        out = torch.full_like(z, torch.nan), torch.full_like(z, torch.nan)
        for top in (7, 4, 0):  # 11 rows; the last window starts at 7 and keeps rows 8 to 10
            for left in (4, 0):  # 8 columns
                part = slice(None), slice(None), slice(top, top + 4), slice(left, left + 4)
                for whole, mixed in zip(out, rows_and_columns(z[part], mixer), strict=True):
                    whole[part] = mixed
        return out

    x = draw(11, 8)
    torch.testing.assert_close(mixer(x), sparse_mlp(x, mixer, by_window))


@pytest.mark.parametrize("policy", POLICIES)
def test_whole_sparse_mlp_block(draw, policy):
    block = MetaFormerBlock(
        DIM,
        dict(type="SparseMLP", side=SIDE, policy=policy),
        norm1=None,
        norm2=dict(type="LN", eps=1e-5),
        mlp_ratio=3,
    )
    block, x = randomised(block), draw(SIDE, SIDE)
    mixer = block.token_mixer
    u = x + sparse_mlp(x, mixer, lambda z: rows_and_columns(z, mixer))
    v = F.layer_norm(u.movedim(1, -1), (DIM,), block.norm2.weight, block.norm2.bias, 1e-5)
    v = F.gelu(F.linear(v, block.mlp.fc1.weight.flatten(1), block.mlp.fc1.bias))
    v = F.linear(v, block.mlp.fc2.weight.flatten(1), block.mlp.fc2.bias)
    torch.testing.assert_close(block(x), u + v.movedim(-1, 1))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("size", [(4, 4), (9, 6), (13, 2), (1, 1), (3, 17)])
def test_any_size_keeps_shape_and_trains(mixer, policy, size):
    torch.manual_seed(0)
    mixer = mixer(DIM, SIDE, policy)
    x = torch.randn(3, DIM, *size, requires_grad=True)
    out = mixer(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad.isfinite().all()
    for name, parameter in mixer.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mixer", MIXERS)
def test_channels_last_gives_the_same(mixer, policy, draw):
    mixer = mixer(DIM, SIDE, policy).double().eval()
    x = draw(7, 10)
    strided = mixer(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(strided, mixer(x))


@pytest.mark.parametrize("policy", POLICIES)
def test_compiles_without_graph_breaks(policy):
    torch.manual_seed(0)
    mixers = [mixer(DIM, SIDE, policy).eval() for mixer in MIXERS]
    model = torch.nn.Sequential(*mixers)
    x = torch.randn(1, DIM, 7, 3)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("mixer", MIXERS)
def test_wrong_arguments(mixer):
    with pytest.raises(ValueError, match="policy='pad'.*'window'"):
        mixer(DIM, SIDE, "pad")
    with pytest.raises(ValueError, match="side=-1"):
        mixer(DIM, -1)
