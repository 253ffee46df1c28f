"""sMLPNet against the authors' network, written here as plain functions of their state dict."""

import pytest
import torch
import torch.nn.functional as F

from mmplugins.backbones import sMLPNet
from mmplugins.backbones.poolformer import PoolFormer

DEPTHS, DIM = (1, 2, 2, 1), 4
TINY = dict(depths=DEPTHS, dims=tuple(DIM << i for i in range(4)))


def official_shapes():
    """Keys and shapes of the authors' state dict, for DEPTHS and DIM, trained at 224 pixels."""
    shapes, k = {}, 0

    def batch_norm(key, dim):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{key}.{leaf}"] = (dim,)
        shapes[f"{key}.num_batches_tracked"] = ()

    for i, depth in enumerate(DEPTHS):
        dim, side, kernel = DIM << i, 56 >> i, 2 if i else 4
        shapes[f"to_patch_embedding.{i}.0.weight"] = (dim, dim // 2 if i else 3, kernel, kernel)
        for _ in range(depth):
            mix, mlp = f"token_mix.{k}", f"channel_mix.{k}"
            batch_norm(f"{mix}.0.conv_merge.BN", dim)
            shapes[f"{mix}.0.conv_merge.Conv.weight"] = (dim, 1, 3, 3)
            batch_norm(f"{mix}.1.BN", dim)
            for name in ("proj_h", "proh_w"):
                shapes[f"{mix}.1.{name}.weight"] = (side, side, 1, 1)
                shapes[f"{mix}.1.{name}.bias"] = (side,)
            shapes[f"{mix}.1.fuse.weight"] = (dim, 3 * dim, 1, 1)
            shapes |= {f"{mlp}.1.weight": (dim,), f"{mlp}.1.bias": (dim,)}
            shapes[f"{mlp}.2.net.0.weight"] = (3 * dim, dim)
            shapes[f"{mlp}.2.net.0.bias"] = (3 * dim,)
            shapes[f"{mlp}.2.net.3.weight"] = (dim, 3 * dim)
            shapes[f"{mlp}.2.net.3.bias"] = (dim,)
            k += 1
    batch_norm("batch_norm", dim)
    shapes |= {"mlp_head.0.weight": (1000, dim), "mlp_head.0.bias": (1000,)}
    return shapes


@pytest.fixture(scope="module")
def official():
    """A state dict in the authors' layout with random weights and statistics."""
    rng = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in official_shapes().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
            continue
        fan_in = max(1, torch.Size(shape[1:]).numel())
        value = torch.randn(shape, generator=rng, dtype=torch.float64) * fan_in**-0.5
        if len(shape) == 1:
            value = value.abs() + 0.2 if "var" in key or "weight" in key else 0.3 * value
        state[key] = value
    return state


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


def test_official_weights_below_a_prefix_and_without_the_last_stage(official):
    model = torch.nn.Module()
    model.backbone = sMLPNet(TINY, out_norm=None, out_indices=(0, 1))
    missing, unexpected = model.load_state_dict(
        {f"backbone.{key}": value for key, value in official.items()}, strict=False
    )
    assert not missing
    assert all(key.startswith(("backbone.stages.2.", "backbone.stages.3.")) for key in unexpected)


def test_t_has_the_entries_of_the_official_file_less_its_classifier():
    with torch.device("meta"):
        model = sMLPNet("t", out_norm=None)
    assert len(model.state_dict()) == 583 - len(["batch_norm"] * 5 + ["mlp_head"] * 2)


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


@pytest.mark.parametrize("size", [(96, 160), (72, 100)])
@pytest.mark.parametrize("policy", ["window", "resample"])
def test_every_parameter_gets_a_gradient(policy, size):
    model = sMLPNet(TINY, policy=policy)
    sum(f.square().mean() for f in model(torch.randn(2, 3, *size))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_checkpointed_blocks_count_each_batch_once():
    torch.manual_seed(0)
    plain, thrifty = sMLPNet(TINY), sMLPNet(TINY, with_cp=True)
    thrifty.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 96)
    for model in (plain, thrifty):
        sum(f.square().mean() for f in model(x)).backward()
    for (name, a), b in zip(plain.named_buffers(), thrifty.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    for (name, a), b in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_unknown_names():
    with pytest.raises(ValueError, match="arch 'm'"):
        sMLPNet("m")
    with pytest.raises(ValueError, match="policy='crop'"):
        sMLPNet(TINY, policy="crop")
