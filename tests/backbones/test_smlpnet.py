"""sMLPNet against the authors' network, written here as plain functions of their state dict."""

import pytest
import torch
import torch.nn.functional as F
from written_layouts import smlpnet_official

from mmplugins.backbones import sMLPNet
from mmplugins.backbones.poolformer import PoolFormer

DEPTHS, DIM = (1, 2, 2, 1), 4
TINY = dict(depths=DEPTHS, dims=tuple(DIM << i for i in range(4)))


@pytest.fixture
def official(randomise):
    """A state dict in the authors' layout with random weights and statistics."""
    state = randomise(smlpnet_official(DEPTHS, TINY["dims"]).state_dict)
    return {key: value.double() if value.ndim else value for key, value in state.items()}


def official_features(x, state):
    """The authors' network without its classifier; weights named as in their file."""

    def batch_norm(x, key):
        w = {leaf: state[f"{key}.{leaf}"][:, None, None] for leaf in ("weight", "bias")}
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return x * w["weight"] + w["bias"]

    def linear(x, key):
        return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])

    outs, k = [], 0
    for i, depth in enumerate(DEPTHS):
        x = F.conv2d(x, state[f"to_patch_embedding.{i}.0.weight"], stride=2 if i else 4)
        dim = x.shape[1]
        for _ in range(depth):
            mix, mlp = f"token_mix.{k}", f"channel_mix.{k}"
            y = F.gelu(batch_norm(x, f"{mix}.0.conv_merge.BN"))
            y = F.conv2d(y, state[f"{mix}.0.conv_merge.Conv.weight"], padding=1, groups=dim)
            z = F.gelu(batch_norm(y, f"{mix}.1.BN"))
            a, d = (state[f"{mix}.1.{name}.weight"][:, :, 0, 0] for name in ("proj_h", "proh_w"))
            rows = torch.einsum("jk,bcik->bcij", a, z) + state[f"{mix}.1.proj_h.bias"]
            columns = torch.einsum("ik,bckj->bcij", d, z)
            columns = columns + state[f"{mix}.1.proh_w.bias"][:, None]
            x = x + F.conv2d(torch.cat([z, rows, columns], 1), state[f"{mix}.1.fuse.weight"])
            y = F.layer_norm(
                x.permute(0, 2, 3, 1), (dim,), state[f"{mlp}.1.weight"], state[f"{mlp}.1.bias"]
            )
            y = linear(F.gelu(linear(y, f"{mlp}.2.net.0")), f"{mlp}.2.net.3")
            x = x + y.permute(0, 3, 1, 2)
            k += 1
        outs.append(x)
    return outs


@pytest.mark.parametrize("policy", ["window", "resample"])
def test_official_weights_give_the_official_features(official, policy):
    model = sMLPNet(TINY, policy=policy, out_norm=None).double().eval()
    model.load_state_dict(official)  # strict
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        outs = model(x)
    for ours, theirs in zip(outs, official_features(x, official), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("policy", ["window", "resample"])
@pytest.mark.parametrize("size", [(224, 224), (32, 32), (97, 131), (203, 66), (35, 290)])
def test_any_size_gives_the_map_sizes_of_poolformer(policy, size):
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        ours, theirs = sMLPNet(TINY, policy=policy)(x), PoolFormer(TINY)(x)
    assert [f.shape for f in ours] == [f.shape for f in theirs]


def test_last_rows_and_columns_are_not_cut_off():
    x = torch.randn(1, 3, 67, 71, requires_grad=True)
    sMLPNet(TINY, out_norm=None, out_indices=(3,)).eval()(x)[0].square().sum().backward()
    assert x.grad[:, :, -1].abs().sum() > 0 and x.grad[:, :, :, -1].abs().sum() > 0


def test_image_size_sets_the_sides():
    model = sMLPNet(TINY, image_size=320)
    sides = [stage.blocks[0].token_mixer.row.in_features for stage in model.stages]
    assert sides == [80, 40, 20, 10]
    with pytest.raises(ValueError, match="image_size=200.*multiple of 32"):
        sMLPNet(TINY, image_size=200)
