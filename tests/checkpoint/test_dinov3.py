"""DINOv3's ConvNeXts in three layouts, their features by plain code, and their licence."""

import pytest
import torch
import torch.nn.functional as F
import written_layouts as written
from safetensors.torch import save_file
from small_models import SMALL, small

from mmplugins.backbones import ConvNeXt
from mmplugins.checkpoint import convert, find_weights, load_weights, published

ALONE = (None, None, None, "LN")
TINY = dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768))
LAYOUTS = {
    "Meta": lambda **size: written.convnext(final_norm=("norms.3", "norm"), **size),
    "Hugging Face": lambda **size: written.convnext(
        "hugging face dinov3", final_norm=("layer_norm",), **size
    ),
    "Hugging Face, transformers 5": lambda **size: written.convnext(
        "hugging face dinov3", final_norm=("layer_norm",), below="model.", **size
    ),
    "timm": lambda **size: written.convnext("timm", final_norm=("head.norm",), **size),
}


def authors_features(w, images, depths):
    """What get_intermediate_layers(n=4, norm=True) gives: no norm but after the last stage."""

    def norm(x, name):
        x = F.layer_norm(
            x.movedim(1, -1), x.shape[1:2], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6
        )
        return x.movedim(-1, 1)

    def conv(x, name, **how):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    x, features = images, []
    for i, depth in enumerate(depths):
        first, second = f"downsample_layers.{i}.0", f"downsample_layers.{i}.1"
        x = conv(norm(x, first), second, stride=2) if i else norm(conv(x, first, stride=4), second)
        for j in range(depth):
            block = f"stages.{i}.{j}"
            y = norm(conv(x, f"{block}.dwconv", padding=3, groups=x.shape[1]), f"{block}.norm")
            y = linear(F.gelu(linear(y.movedim(1, -1), f"{block}.pwconv1")), f"{block}.pwconv2")
            x = x + (w[f"{block}.gamma"] * y).movedim(-1, 1)
        features.append(norm(x, "norms.3") if i == 3 else x)
    return features


def tame(state):
    """Random weights of a size at which features neither vanish nor explode."""
    return {key: value * 0.05 if value.ndim > 1 else value for key, value in state.items()}


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_are_the_authors(layout, tmp_path):
    authors = tame(LAYOUTS["Meta"]().state_dict)
    theirs = tame(LAYOUTS[layout]().state_dict)
    save_file({k: v.clone() for k, v in theirs.items()}, tmp_path / "model.safetensors")
    model = small("ConvNeXt", out_norm=ALONE).eval()
    report = load_weights(model, tmp_path / "model.safetensors")
    assert report.ok and not report.absent
    assert {"out_norms.3.weight", "out_norms.3.bias"} <= set(report.matched)
    assert any("kept as out_norms.3" in line for line in report.notes())
    images = torch.randn(2, 3, 64, 96)
    expected = authors_features(authors, images, SMALL["depths"])
    for ours, e in zip(model(images), expected, strict=True):
        torch.testing.assert_close(ours, e, rtol=1e-5, atol=1e-5 * float(e.abs().max()))


@torch.no_grad()
def test_other_norms_start_afresh_beside_the_trained_one(save):
    authors = tame(LAYOUTS["Meta"]().state_dict)
    model = small("ConvNeXt").eval()
    report = load_weights(model, save(authors))
    fresh = {f"out_norms.{i}.{leaf}" for i in range(3) for leaf in ("weight", "bias")}
    assert report.ok and set(report.absent) == fresh
    images = torch.randn(1, 3, 64, 64)
    features = authors_features(authors, images, SMALL["depths"])
    for ours, e in zip(model(images)[:3], features[:3], strict=True):
        e = F.layer_norm(e.movedim(1, -1), e.shape[1:2], eps=1e-6).movedim(-1, 1)
        torch.testing.assert_close(ours, e, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(images)[3], features[3], rtol=1e-5, atol=1e-4)


def test_a_model_without_the_norm_is_told_what_it_misses(save):
    report = load_weights(small("ConvNeXt", out_norm=None), save(LAYOUTS["timm"]().state_dict))
    assert report.ok and "out_norms.3.weight" in report.absent
    assert any("dense results hang on it" in line for line in report.notes())


def test_a_norm_before_a_classifier_is_not_taken(save):
    report = load_weights(small("ConvNeXt"), save(written.convnext("timm").state_dict))
    assert report.ok and "out_norms.3.weight" not in report.matched
    assert not any("out_norms.3" in line and "kept" in line for line in report.notes())


def test_dense_files_of_the_authors_keep_all_four_norms(save):
    report = load_weights(small("ConvNeXt"), save(written.convnext(dense=True).state_dict))
    assert report.ok and sum(key.startswith("out_norms.") for key in report.matched) == 8


@pytest.mark.parametrize("layout", ["Meta", "Hugging Face"])
def test_licence_in_report_and_conversion(layout, save):
    state = LAYOUTS[layout](**TINY).state_dict
    path = save(state)
    with torch.device("meta"):
        model = ConvNeXt("tiny")
    model.to_empty(device="cpu")
    assert "licence of these weights: DINOv3" in str(load_weights(model, path))
    conversion = convert(find_weights(state, path), "mmplugins")
    assert conversion.license.startswith("DINOv3 License")


def test_conversions_keep_the_norm_in_every_layout():
    meta = LAYOUTS["Meta"](**TINY).state_dict
    timms = convert(find_weights(meta, "w.pth"), "timm")
    assert {"head.norm.weight", "head.norm.bias"} <= set(timms.tensors) and not timms.left_out
    back = convert(find_weights(timms.tensors, "w.pth"), "official").tensors
    assert set(back) == set(meta)  # both of Meta's names of the norm
    assert all(torch.equal(back[key], value) for key, value in meta.items())
    import timm

    with torch.device("meta"):
        reference = timm.create_model("convnext_tiny.dinov3_lvd1689m")
    reference.load_state_dict(timms.tensors, strict=True, assign=True)


def test_published_under_their_licence():
    for size in ("tiny", "small", "base", "large"):
        row = published()[f"convnext_{size}_dinov3"]
        assert row.backbone == f"convnext_{size}" and row.license.startswith("DINOv3 License")
        assert row.sources[0].sha256 in row.sources[0].file
        assert {source.url.split("/")[2] for source in row.sources} == {
            "dl.fbaipublicfiles.com",
            "huggingface.co",
        }
    assert published()["convnext_tiny"].license == "MIT"


@pytest.mark.parametrize(
    "norms", [(None, None, None), ("LN", None, None, None, None)], ids=["three", "five"]
)
def test_a_list_of_output_norms_has_one_for_each_stage(norms):
    with pytest.raises(ValueError, match=r"one value, or a list of one per stage \(4\)"):
        small("ConvNeXt", out_norm=norms)


def test_listed_output_norms_go_with_their_stages():
    model = small("ConvNeXt", out_norm=[None, "LN", None, "LN"], out_indices=(1, 2))
    names = {name for name, _ in model.named_parameters() if name.startswith("out_norms")}
    assert names == {"out_norms.1.weight", "out_norms.1.bias"}
    assert [x.shape[1] for x in model(torch.zeros(1, 3, 64, 64))] == [64, 96]
