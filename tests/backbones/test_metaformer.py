"""The open architecture: every part as an argument, and the paper's ablation as configs."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmplugins.backbones import MetaFormer
from mmplugins.backbones.metaformer import PatchConv, PositionEmbedding

TINY = dict(depths=(1, 1, 1, 1), dims=(32, 32, 32, 32))


def first_blocks(model):
    return [stage.blocks[0] for stage in model.stages]


@pytest.mark.parametrize("side", [32, 33, 34, 35, 97, 131, 202, 203])
def test_sides_are_rounded_as_published(side):
    """Stem floor((H + 1) / 4), each downsampling ceil(h / 2)."""
    expected = [(side + 1) // 4]
    for _ in range(3):
        expected.append(-(-expected[-1] // 2))
    outs = MetaFormer(**TINY)(torch.randn(1, 3, side, 64))
    assert [out.shape[2] for out in outs] == expected


def test_settings_by_stage():
    model = MetaFormer(
        **TINY,
        token_mixers=["Pooling", dict(type="SepConv", kernel_size=3), "Identity", "Attention"],
        mlp_ratios=[4, 0, 2, 1],
        norm1=["GN1", "LN", "BN", None],
        norm2=["LN", "LN", "GN1", "BN"],
        mlp_act=["GELU", "ReLU", "SquaredReLU", "SiLU"],
        layer_scale=[None, 0.5, 1e-5, None],
        res_scale=[None, None, 1.0, 2.0],
    )
    blocks = first_blocks(model)
    names = [type(block.token_mixer).__name__ for block in blocks]
    assert names == ["Pooling", "SepConv", "Identity", "Attention"]
    assert [block.has_mlp for block in blocks] == [True, False, True, True]
    assert blocks[2].mlp.fc1.out_channels == 64
    assert [type(b.norm1).__name__ for b in blocks] == [
        *("GroupNorm1", "LayerNorm2d", "BatchNorm2d", "Identity")
    ]
    assert isinstance(blocks[3].norm2, nn.BatchNorm2d)
    assert [type(b.mlp.act).__name__ for b in blocks if b.has_mlp] == [
        "GELU",
        "SquaredReLU",
        "SiLU",
    ]
    assert isinstance(blocks[0].layer_scale1, nn.Identity)
    assert blocks[1].layer_scale1.scale.tolist() == [0.5] * 32
    assert blocks[3].res_scale2.scale.tolist() == [2.0] * 32
    assert len(model(torch.randn(2, 3, 64, 64))) == 4


def test_second_norm_follows_the_first():
    assert all(type(b.norm2) is type(b.norm1) for b in first_blocks(MetaFormer(**TINY, norm1="BN")))


def test_wrong_number_of_stages_is_named():
    with pytest.raises(ValueError, match=r"norm1=\['LN', 'LN'\]: .* one per stage"):
        MetaFormer(**TINY, norm1=["LN", "LN"])
    with pytest.raises(ValueError, match="expected four stages"):
        MetaFormer((1, 1, 1), (8, 8, 8))


@torch.no_grad()
def test_stem_and_downsampling_forms(assert_close):
    ours = MetaFormer(
        **TINY,
        stem=dict(kernel_size=4, stride=4, bias=False, post_norm="LN"),
        downsample=dict(kernel_size=2, stride=2, pre_norm="LN"),
    )
    x = torch.randn(1, 3, 64, 96)
    stem, downsample = ours.stem, ours.stages[1].downsample
    assert stem.conv.bias is None and downsample.conv.bias is not None
    assert_close(stem(x), stem.norm(stem.conv(x)))
    y = stem(x)
    assert_close(downsample(y), downsample.conv(downsample.norm(y)))
    assert downsample(y).shape[2:] == (8, 12)
    with pytest.raises(ValueError, match="expected one of them at most"):
        PatchConv(3, 8, 4, 4, pre_norm="LN", post_norm="LN")


@torch.no_grad()
def test_position_embedding():
    embedding = PositionEmbedding(2, 4)
    nn.init.normal_(embedding.weight)
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(embedding(x), x + embedding.weight)
    embedding.weight[:] = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)  # resampling keeps constants
    x = torch.zeros(1, 2, 5, 9)
    assert torch.allclose(embedding(x), embedding.weight[:, :, :1, :1].expand(1, 2, 5, 9))


def test_drop_path_grows_linearly():
    model = MetaFormer((1, 2, 1, 1), TINY["dims"], drop_path_rate=0.4)
    blocks = [block for stage in model.stages for block in stage.blocks]
    rates = [getattr(block.drop_path, "p", 0.0) for block in blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("init", "stem", "block"),
    [("blocks", False, True), ("all", True, True), ("none", False, False)],
)
def test_start_values(init, stem, block):
    torch.manual_seed(0)
    model = MetaFormer((1, 1, 1, 1), (128, 128, 128, 128), init=init)

    def is_published_start(layer):
        normal = abs(layer.weight.std().item() - 0.02) < 0.002 and layer.weight.abs().max() > 0.06
        return normal and not layer.bias.any()

    assert is_published_start(model.stem.conv) is stem
    assert is_published_start(model.stages[1].downsample.conv) is stem
    assert is_published_start(model.stages[1].blocks[0].mlp.fc1) is block
    with pytest.raises(ValueError, match="init='every'"):
        MetaFormer(init="every")


def random_mixing(*sides):
    return [dict(type="RandomMixing", side=side) for side in sides]


S12 = dict(type="PoolFormer", arch="s12")
ABLATION = {  # Table 5 of the first paper: a config, and millions of trained parameters
    "baseline": (S12, 11.9),
    "pooling to identity": (dict(S12, token_mixers="Identity"), 11.9),
    "pooling to random matrix": (dict(S12, token_mixers=random_mixing(56, 28, 14, 7)), 11.9),
    "pooling to depthwise conv": (dict(S12, token_mixers="DepthwiseConv"), 11.9),
    "pool size 5": (dict(S12, token_mixers=dict(type="Pooling", pool_size=5)), 11.9),
    "pool size 7": (dict(S12, token_mixers=dict(type="Pooling", pool_size=7)), 11.9),
    "pool size 9": (dict(S12, token_mixers=dict(type="Pooling", pool_size=9)), 11.9),
    "LayerNorm": (dict(S12, norm1="LN"), 11.9),
    "BatchNorm": (dict(S12, norm1="BN"), 11.9),
    "no norm": (dict(S12, norm1=None), 11.9),
    "ReLU": (dict(S12, mlp_act="ReLU"), 11.9),
    "SiLU": (dict(S12, mlp_act="SiLU"), 11.9),
    "no residual": (dict(S12, shortcut=False), 11.9),
    "no channel MLP": (dict(S12, mlp_ratios=0), 2.5),
    "pool, pool, pool, attention": (dict(S12, arch="s12_pppa"), 14.0),
    "pool, pool, attention, attention": (dict(S12, arch="s12_ppaa"), 16.5),
    "pool, pool, pool, spatial FC": (dict(S12, arch="s12_pppf"), 11.9),
    "pool, pool, spatial FC, spatial FC": (dict(S12, arch="s12_ppff"), 12.2),
}
CLASSIFIER = 2 * 512 + 512 * 1000 + 1000  # the table counts the last norm and the linear layer


@pytest.mark.parametrize("row", ABLATION)
@torch.no_grad()
def test_ablation_of_the_first_paper(row):
    config, millions = ABLATION[row]
    with torch.device("meta"):
        model = MODELS.build(dict(config, out_norm=None)).eval()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert round((trained + CLASSIFIER) / 1e6, 1) == millions
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    sides = {56: 2, 28: 2, 14: 6, 7: 2} if "random" in row else {}
    assert frozen == sum(depth * side**4 for side, depth in sides.items())  # 21 M
    outs = model(torch.empty(1, 3, 64, 64, device="meta"))
    assert [out.shape[2] for out in outs] == [16, 8, 4, 2]
