"""Weights whose shape follows the image: input channels, and matrices over positions."""

import pytest
import torch
import torch.nn.functional as F
import written_layouts as written
from mmengine.registry import MODELS
from small_models import SMALL, small

from mmplugins.backbones import TimmBackbone
from mmplugins.checkpoint import (
    MismatchError,
    load_weights,
)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_input_channels(save, channels):
    """One channel gets the sum; more get RGB in turn, scaled so that equal channels agree."""
    writer = written.poolformer_official()
    model = small("PoolFormer", in_channels=channels)
    report = load_weights(model, save(writer.state_dict))
    assert report.ok
    assert report.adapted == {"stem.conv.weight": f"3 -> {channels} input channels"}
    rgb = writer.ours["stem.conv.weight"]
    got = model.state_dict()["stem.conv.weight"]
    if channels == 1:
        expected = rgb.sum(1, keepdim=True)
    else:
        expected = torch.stack([rgb[:, i % 3] for i in range(channels)], 1) * 3 / channels
    torch.testing.assert_close(got, expected)


def test_four_channels_do_not_become_three(save):
    path = save(small("PoolFormer", in_channels=4).state_dict())
    with pytest.raises(MismatchError, match="same architecture built with other arguments"):
        load_weights(small("PoolFormer"), path)


@pytest.mark.parametrize("family", ["ConvNeXt", "PoolFormer"])
def test_a_tensor_of_fewer_dimensions_is_of_another_shape(save, family):
    state = dict(small(family).state_dict())
    key = next(k for k, v in state.items() if k.startswith("stages") and v.ndim == 4)
    path = save({**state, key: torch.ones(3)})
    with pytest.raises(MismatchError, match=key.replace(".", r"\.")):
        load_weights(small(family), path)


def test_sparse_mlp_of_another_training_size(save):
    """Rows W become R W R', so constant lines keep their answer and 7 positions stay close."""
    writer = written.smlpnet_official(image=224)
    model = small("sMLPNet", image_size=448)
    report = load_weights(model, save(dict(model=writer.state_dict)))
    assert report.ok
    tied = [k for k in writer.ours if ".row." in k or ".column." in k]
    assert sorted(report.adapted) == sorted(tied)
    key = "stages.3.blocks.0.token_mixer.row.weight"
    old, new = writer.ours[key].flatten(1), model.state_dict()[key]
    assert new.shape == (14, 14)

    def resample(x, size):  # torchvision's antialiased linear interpolation of a line
        x = x[None, None, None]
        return F.interpolate(x, (1, size), mode="bilinear", antialias=True)[0, 0, 0]

    line = torch.randn(14)
    torch.testing.assert_close(new @ line, resample(old @ resample(line, 7), 14))
    constant = torch.ones(14)
    torch.testing.assert_close(new @ constant, resample(old.sum(1), 14))
    bias = "stages.3.blocks.0.token_mixer.row.bias"
    torch.testing.assert_close(model.state_dict()[bias], resample(writer.ours[bias], 14))


def test_random_matrix_and_embedding_of_another_size(save):
    mixers = ["Identity", "Identity", dict(type="RandomMixing", side=10), "Identity"]
    settings = dict(**SMALL, pos_embed=[None, None, 10, None])
    model = MODELS.build(dict(type="MetaFormer", token_mixers=mixers, **settings))
    mixers[2] = dict(mixers[2], side=14)
    source = MODELS.build(
        dict(
            type="MetaFormer",
            token_mixers=mixers,
            **dict(settings, pos_embed=[None, None, 14, None]),
        )
    )
    torch.nn.init.normal_(source.stages[2].pos_embed.weight)
    report = load_weights(model, save(source.state_dict()))
    assert report.ok
    assert set(report.adapted.values()) == {
        "resampled 196x196 -> 100x100",
        "resampled 1x96x14x14 -> 1x96x10x10",
    }
    old, new = source.stages[2].pos_embed.weight, model.stages[2].pos_embed.weight
    expected = F.interpolate(old, (10, 10), mode="bicubic", align_corners=False)
    torch.testing.assert_close(new, expected)
    matrix = model.stages[2].blocks[0].token_mixer.random_matrix
    torch.testing.assert_close(matrix.sum(1), torch.ones(100))  # still averages
    # the same mixing, seen at the coarser size
    old = source.stages[2].blocks[0].token_mixer.random_matrix

    def resample(x, side):
        x = x.view(1, 1, round(len(x) ** 0.5), -1)
        return F.interpolate(x, (side, side), mode="bilinear", antialias=True).flatten()

    image = torch.randn(100)
    torch.testing.assert_close(matrix @ image, resample(old @ resample(image, 14), 10))


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "beit_base_patch16_224"])
def test_timm_models_for_another_image_size_agree_with_timms_set_input_size(name, save):
    import timm

    torch.manual_seed(0)
    small_one = dict(embed_dim=32, depth=2, num_heads=2)
    theirs = timm.create_model(name, **small_one)
    path = save({key: value.clone() for key, value in theirs.state_dict().items()})
    theirs.set_input_size(img_size=(192, 128))
    ours = TimmBackbone(name, img_size=(192, 128), **small_one)
    report = load_weights(ours, path)
    assert report.ok and report.adapted
    expected = theirs.state_dict()
    for key in report.adapted:
        value = ours.state_dict()[key]
        torch.testing.assert_close(value, expected[key.removeprefix("body.model.")])
