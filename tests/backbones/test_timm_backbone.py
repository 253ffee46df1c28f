"""TimmBackbone against timm's own feature extractors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from mmplugins.backbones import TimmBackbone, build_backbone
from mmplugins.backbones.key_layouts import TIMM, KeyLayout
from mmplugins.backbones.timm_backbone import SimpleFeaturePyramid

# timm's model, and the positions of strides 4 to 32 among timm's maps. Among them are list,
# block-list, getter and hook extractors; convolutions and windows; channels-last inside; a map of
# stride 2 before, and none.
PYRAMIDS = {
    "resnet18": (1, 2, 3, 4),
    "test_convnext": (0, 1, 2, 3),
    "test_efficientnet": (1, 2, 3, 4),
    "mobilenetv3_small_050": (1, 2, 3, 4),
    "test_mambaout": (0, 1, 2, 3),
    "twins_pcpvt_small": (0, 1, 2, 3),
    "xception41": (1, 2, 3, 4),
    "poolformer_s12": (0, 1, 2, 3),
    "swin_tiny_patch4_window7_224": (0, 1, 2, 3),
}
SHALLOW = dict(depths=(1, 1, 2, 1))
SETTINGS = {  # to be quick
    "twins_pcpvt_small": dict(SHALLOW, embed_dims=(16, 32, 48, 64), num_heads=(1, 2, 3, 4)),
    "swin_tiny_patch4_window7_224": dict(SHALLOW, embed_dim=32, num_heads=(1, 2, 2, 4)),
}


def build(name: str, **settings) -> TimmBackbone:
    return TimmBackbone(name, **SETTINGS.get(name, {}), **settings)


def extractor(name: str, **settings) -> nn.Module:
    """timm's own, as a user of timm would build it."""
    if "swin" in name:
        settings["strict_img_size"] = False
    settings |= SETTINGS.get(name, {})
    return timm.create_model(name, features_only=True, **settings).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", PYRAMIDS)
def test_same_features_as_timm(name, randomise, assert_close):
    model = build(name).eval()
    theirs = randomise(extractor(name, out_indices=PYRAMIDS[name]))
    model.body.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, *((96, 160) if "swin" in name else (97, 131)))
    expected = theirs(x)
    assert model.out_strides == (4, 8, 16, 32)
    assert model.out_channels == tuple(theirs.feature_info.channels())
    channels_last = "swin" in name or "mambaout" in name
    for out, e, channels in zip(model(x), expected, model.out_channels, strict=True):
        assert out.shape[1] == channels
        assert_close(out, e.permute(0, 3, 1, 2) if channels_last else e)
    modules = dict(model.named_modules())
    if "twins" not in name:  # where timm itself names a module that is not there
        assert all(info["module"] in modules for info in model.feature_info)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "divisor"),
    [("resnet18", 1), ("swin_tiny_patch4_window7_224", 32), ("test_maxvit", 160)],
)
def test_any_size(name, divisor, randomise):
    """Images are padded to multiples of 32 for a swin, of 32 times its windows for a MaxViT."""
    model = randomise(build(name)).eval()
    assert model.found.size_divisor == divisor
    for size in [(224, 224), (97, 131), (33, 64)]:
        x = torch.randn(1, 3, *size)
        outs = model(x)
        if divisor > 1:
            padded = torch.zeros(1, 3, *(-(-side // divisor) * divisor for side in size))
            padded[:, :, : size[0], : size[1]] = x
            assert all(map(torch.equal, outs, model(padded)))
        else:
            for out, stride in zip(outs, model.out_strides, strict=True):
                assert out.shape[2:] == tuple(-(-side // stride) for side in size)


@torch.no_grad()
def test_plain_model(randomise, assert_close):
    """The simple feature pyramid stands on the map after timm's last block."""
    model = randomise(TimmBackbone("test_vit", frozen_stages=1)).eval()
    theirs = timm.create_model("test_vit", dynamic_img_size=True, dynamic_img_pad=True).eval()
    own = {key.removeprefix("body.model."): value for key, value in model.state_dict().items()}
    missing, _ = theirs.load_state_dict(own, strict=False)
    assert {key.split(".")[0] for key in missing} == {"norm", "head"}
    x = torch.randn(2, 3, 97, 131)
    (last,) = theirs.forward_intermediates(x, indices=1, intermediates_only=True)
    assert last.shape[2:] == (7, 9)
    outs = model(x)
    levels = model.pyramid.levels
    up = levels[0]
    finest = up[3](nn.functional.gelu(up[1](up[0](last))))
    for out, e in zip(
        outs, (finest, levels[1](last), last, nn.functional.max_pool2d(last, 2)), strict=True
    ):
        assert_close(out, e)
    assert [out.shape[1] for out in outs] == list(model.out_channels) == [16, 32, 64, 64]
    assert [out.shape[2:] for out in outs] == [(28, 36), (14, 18), (7, 9), (3, 4)]
    assert model(torch.randn(1, 3, 33, 64))[3].shape[2:] == (1, 2)
    assert TimmBackbone("test_vit", out_indices=(1, 3)).pyramid.levels[0].weight.shape[1] == 32


def test_pyramid_levels():
    pyramid = SimpleFeaturePyramid(8, (2, 3))
    assert pyramid.dims == (2, 4, 8, 8)
    assert [x.shape for x in pyramid(torch.zeros(1, 8, 4, 6))] == [(1, 8, 4, 6), (1, 8, 2, 3)]
    assert not list(pyramid.parameters())


FROZEN = {  # parts of the body: the stem, then the stages one by one
    "test_resnet": [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)],
    "test_convnext": [("stem_",), ("stages_0",), ("stages_1",), ("stages_2",), ("stages_3",)],
    "test_efficientnet": [
        ("conv_stem", "bn1", "blocks.0"),
        ("blocks.1",),
        ("blocks.2",),
        ("blocks.3",),
        ("blocks.4", "blocks.5"),
    ],
    "twins_pcpvt_small": [  # patch embeddings stand before all stages, but serve one each
        ("model.patch_embeds.0",),
        ("model.blocks.0", "model.pos_block.0"),
        ("model.patch_embeds.1", "model.blocks.1", "model.pos_block.1"),
        ("model.patch_embeds.2", "model.blocks.2", "model.pos_block.2"),
        ("model.patch_embeds.3", "model.blocks.3", "model.pos_block.3"),
    ],
    "test_vit": [
        ("model.cls_token", "model.pos_embed", "model.patch_embed"),
        ("model.blocks.0",),
        ("model.blocks.1", "model.blocks.2"),
        ("model.blocks.3",),
        ("model.blocks.4", "model.blocks.5"),
    ],
}


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_stages(name):
    for frozen_stages in (-1, 0, 2, 4):
        model = build(name, frozen_stages=frozen_stages, out_norm="LN")
        parts = tuple(p for stage in FROZEN[name][: frozen_stages + 1] for p in stage)
        expected = {f"body.{n}" for n, _ in model.body.named_parameters() if n.startswith(parts)}
        found = {n for n, p in model.named_parameters() if not p.requires_grad}
        assert found == (expected if parts else set())
        assert model.train() is model
        for n, module in model.body.named_modules():
            names = [f"body.{m}" for m, _ in module.named_parameters(n)]
            if names:
                assert module.training == (not found.issuperset(names)), n
        assert model.out_norms.training


def test_frozen_batch_norms_stand_still():
    model = TimmBackbone("test_resnet", frozen_stages=1).train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    model(torch.randn(2, 3, 64, 64))
    still = {n for n, b in model.named_buffers() if torch.equal(b, before[n])}
    frozen = ("body.conv1", "body.bn1", "body.layer1")
    assert still == {n for n in before if n.startswith(frozen)}


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_mambaout"])
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (0, 1), (1, 3), (2,)])
def test_every_trainable_parameter_has_a_gradient(name, out_indices):
    model = TimmBackbone(name, out_indices=out_indices, out_norm="LN")
    outs = model(torch.randn(2, 3, 64, 64))
    assert len(outs) == len(out_indices)
    assert model.out_strides == tuple(4 * 2**i for i in out_indices)
    sum(out.square().mean() for out in outs).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert trained and all(p.grad is not None for p in trained.values())


def test_stages_above_are_absent():
    full = {n.split(".")[0] for n, _ in TimmBackbone("test_resnet").body.named_parameters()}
    part = {
        n.split(".")[0]
        for n, _ in TimmBackbone("test_resnet", out_indices=(0, 1)).body.named_parameters()
    }
    assert full - part == {"layer3", "layer4"}


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_recomputing_changes_nothing(name, randomise, assert_close):
    x, grads = torch.randn(2, 3, 64, 64), []
    for with_cp in (False, True):
        model = randomise(TimmBackbone(name, with_cp=with_cp)).train()
        sum(out.sum() for out in model(x)).backward()
        grads.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*grads, strict=True):
        assert_close(recomputed, plain)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_timm_files_load(name, randomise):
    """The weights of a whole timm model and those of its extractor, strictly."""
    whole = randomise(timm.create_model(name))
    last = len(whole.feature_info) - 1
    part = timm.create_model(name, features_only=True, out_indices=(last,))
    for theirs in (whole, randomise(part, seed=1)):
        weights = theirs.state_dict()
        model = TimmBackbone(name)
        missing, unexpected = model.load_state_dict(weights, strict=name != "test_vit")
        assert unexpected == [] == [key for key in missing if not key.startswith("pyramid.")]
        spelt = {k.replace("_", ".").removeprefix("model."): v for k, v in weights.items()}
        for key, value in model.body.state_dict().items():
            assert torch.equal(value, spelt[key.replace("_", ".").removeprefix("model.")]), key
    assert (
        "unknown.weight"
        in model.load_state_dict({"unknown.weight": torch.ones(1)}, strict=False).unexpected_keys
    )


@pytest.mark.parametrize("name", ["test_convnext", "resnet18"])  # resnet18 numbers its stages apart
@pytest.mark.parametrize("with_timm_s", [False, True])
def test_a_family_that_timm_names_otherwise_leaves_files_alone(name, with_timm_s, monkeypatch):
    official = KeyLayout("official", r"patch\.", lambda depths: [("stem.0", "patch")])
    family = SimpleNamespace(layouts=(official, TIMM) if with_timm_s else (official,))
    known = {name.partition("_")[0]: family}
    monkeypatch.setattr("mmplugins.backbones.timm_backbone.families", lambda: known)
    state = {"other.weight": torch.zeros(1), "patch.weight": torch.ones(1)}
    known_here = with_timm_s and name == "test_convnext"
    expected = {"other.weight", "body.stem_0.weight" if known_here else "patch.weight"}
    assert build(name).convert_state_dict(state).keys() == expected


def test_init_weights_keeps_what_timm_made():
    """HRNet has an ``init_weights`` of its own, which mmengine would call."""
    model = TimmBackbone("hrnet_w18_small", out_indices=(0,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    model.init_weights()
    assert all((parameter == 0.5).all() for parameter in model.parameters())


def test_layer_depth():
    """timm's grouping where it has one, stages where it has none."""
    for name, part, last in [("test_vit", "body.model.blocks.4", 7), ("resnet18", "body.bn1", 9)]:
        model = TimmBackbone(name, out_indices=(0, 1), out_norm="LN")
        depths = {
            n: model.get_layer_depth(f"backbone.{n}", "backbone.")
            for n, _ in model.named_parameters()
        }
        assert {count for _, count in depths.values()} == {last + 1}
        assert {d for n, (d, _) in depths.items() if not n.startswith("body.")} == {last}
        assert {d for n, (d, _) in depths.items() if n.startswith(part)} == (
            {5} if name == "test_vit" else {0}
        )
        assert model.get_layer_depth("neck.body.weight", "backbone.") == (last, last + 1)
    model = TimmBackbone("poolformer_s12")
    depths = {n.split(".")[1]: model.get_layer_depth(n)[0] for n, _ in model.named_parameters()}
    assert depths == dict(stem=0, stages_0=1, stages_1=2, stages_2=3, stages_3=4)


def test_settings_reach_timm():
    model = TimmBackbone("test_convnext", drop_path_rate=0.3, in_channels=5, out_indices=(0, 3))
    assert model(torch.randn(1, 5, 64, 64))[1].shape == (1, 64, 2, 2)
    rates = [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)
    assert isinstance(build_backbone("timm/test_resnet.r160_in1k"), TimmBackbone)
    assert TimmBackbone("timm/test_resnet").out_channels == (32, 48, 192, 96)


@torch.no_grad()
@pytest.mark.parametrize("settings", [dict(), dict(img_size=(192, 160))])
def test_a_model_of_one_size(settings):
    """Relative positions of a plain model are laid out when it is built: for its own size."""
    model = TimmBackbone("test_vit_relpos", **settings).eval()
    height, width = settings.get("img_size", (160, 160))
    outs = model(torch.zeros(1, 3, height, width))
    assert [x.shape[2:] for x in outs] == [(height // s, width // s) for s in model.out_strides]
    with pytest.raises(ValueError, match=rf"\(96, 96\).*img_size=\({height}, {width}\) only"):
        model(torch.zeros(1, 3, 96, 96))


def test_a_pyramid_is_asked_for_of_plain_models():
    assert TimmBackbone("test_vit", pyramid="simple").out_strides == (4, 8, 16, 32)
    for name, pyramid in (("test_resnet", "simple"), ("test_vit", "feature")):
        with pytest.raises(ValueError, match=f"pyramid='{pyramid}' for {name}.*'simple'"):
            TimmBackbone(name, pyramid=pyramid)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(model_name="resnet81"), r"no model 'resnet81'.*Did you mean 'resnet\d+"),
        (dict(model_name="resnet18.nowhere"), r"no weights 'resnet18\.nowhere'.*resnet18\.a1_in1k"),
        (dict(model_name="resnet18", nonsense=1), r"does not take.*nonsense"),
        (dict(model_name="levit_128s"), r"lacks feature maps of stride \[4, 8\].*\(2, 3\)"),
        (dict(model_name="test_vit", patch_size=8), r"stride 8 only.*patch_size=16"),
        (dict(model_name="test_resnet", frozen_stages=5), r"frozen_stages=5"),
        (dict(model_name="test_resnet", out_indices=(2, 1)), r"out_indices=\(2, 1\)"),
        (dict(model_name="hrnet_w18_small", with_cp=True), r"no gradient checkpointing"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**settings)
