"""Every layout, written by key tables or by timm, loaded through config and init_weights()."""

from functools import partial

import pytest
import torch
import written_layouts as written
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_checkpoint
from safetensors.torch import save_file

from mmplugins.backbones.catalog import families
from mmplugins.checkpoint import load_weights

SMALL = dict(depths=written.DEPTHS, dims=written.DIMS)
TINY_S12 = dict(depths=(2, 2, 6, 2), dims=(64, 128, 320, 512))


def hybrid(mixers):
    return lambda: written.poolformer_official(**TINY_S12, mixers=mixers)


def of(family, write, *args, **kwargs):
    """A small model, and what writes a state dict for it in the names of another code base."""
    return dict(type=family, arch=SMALL), partial(write, *args, **kwargs)


LAYOUTS = {
    "poolformer": of("PoolFormer", written.poolformer_official),
    "poolformer dense": of("PoolFormer", written.poolformer_official, form="dense"),
    "poolformer mmpretrain": of("PoolFormer", written.poolformer_official, form="mmpretrain"),
    "poolformer hugging face": of("PoolFormer", written.poolformer_hugging_face),
    "identity": (dict(type="PoolFormer", arch="s12_identity"), hybrid("iiii")),
    "pppa": (dict(type="PoolFormer", arch="s12_pppa"), hybrid("pppa")),
    "ppaa": (dict(type="PoolFormer", arch="s12_ppaa"), hybrid("ppaa")),
    "pppf": (dict(type="PoolFormer", arch="s12_pppf"), hybrid("pppf")),
    "ppff": (dict(type="PoolFormer", arch="s12_ppff"), hybrid("ppff")),
    "riformer": of(
        "RIFormer", written.poolformer_official, form="mmpretrain", mixer_of_block="affine"
    ),
    "riformer deployed": (
        dict(type="RIFormer", arch=SMALL, deploy=True),
        lambda: written.poolformer_official(form="mmpretrain", mixer_of_block="folded"),
    ),
    "riformer dense": of(
        "RIFormer", written.poolformer_official, form="dense", mixer_of_block="affine"
    ),
    "smlpnet": of("sMLPNet", written.smlpnet_official),
    "convnext": of("ConvNeXt", written.convnext),
    "convnext dense": of("ConvNeXt", written.convnext, dense=True),
    "convnext mmpretrain": of("ConvNeXt", written.convnext, "mmpretrain"),
    "convnext mmpretrain dense": of("ConvNeXt", written.convnext, "mmpretrain", dense=True),
    "convnext torchvision": of("ConvNeXt", written.convnext, "torchvision"),
    "convnext hugging face": of("ConvNeXt", written.convnext, "hugging face"),
    "convnext hugging face dense": of("ConvNeXt", written.convnext, "hugging face", dense=True),
}
for cls in ("IdentityFormer", "RandFormer", "PoolFormerV2", "ConvFormer", "CAFormer"):
    LAYOUTS[cls.lower()] = of(cls, written.baselines_official, cls.lower())


def below(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def whole_model(state):
    """As mmdet and mmseg save it: neck and heads around the backbone."""
    return below("backbone.", state) | {
        "neck.lateral_convs.0.conv.weight": torch.randn(4, 4, 1, 1),
        "bbox_head.retina_cls.bias": torch.randn(9),
        "decode_head.fusion_conv.conv.weight": torch.randn(4, 4, 1, 1),
        "roi_head.bbox_head.0.fc_cls.weight": torch.randn(3, 3),
    }


def averaged(state):
    """As torch's AveragedModel saves it."""
    return {"n_averaged": torch.tensor(7)} | below("module.", state)


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: dict(state_dict=state, meta=dict(epoch=3)),
    "model": lambda state: dict(model=state, epoch=3),
    "model_ema beside model": lambda state: dict(
        model={key: torch.zeros_like(value) for key, value in state.items()}, model_ema=state
    ),
    "state_dict_ema": lambda state: dict(state_dict_ema=state),
    "DataParallel": lambda state: dict(state_dict=below("module.", state)),
    "whole model": lambda state: dict(state_dict=whole_model(state)),
    "whole model in DataParallel": lambda state: below("module.", whole_model(state)),
    "mmengine EMA": lambda state: dict(
        ema_state_dict=below("module.", whole_model(state)) | dict(steps=torch.tensor(3)),
        meta=dict(epoch=2),
    ),
    "mmcv 1.x EMA": lambda state: dict(
        state_dict=whole_model(state)
        | {f"ema_backbone_{key.replace('.', '_')}": value + 1 for key, value in state.items()}
    ),
    "compiled": lambda state: below("backbone._orig_mod.", state),
    "AveragedModel": averaged,
    "averages in a trainer's dict": lambda state: dict(ema_state_dict=averaged(state), epoch=3),
    "detectron2": lambda state: dict(
        model=below("backbone.bottom_up.", state)
        | {"proposal_generator.rpn_head.conv.weight": torch.ones(4, 4, 3, 3)},
        iteration=7,
    ),
    "DINO's teacher": lambda state: dict(
        student={f"backbone.{key}": value + 1 for key, value in state.items()},
        teacher=below("backbone.", state) | {"dino_head.mlp.0.weight": torch.ones(4, 4)},
    ),
    "lightly-train": lambda state: dict(
        state_dict=below("student_embedding_model.wrapped_model._model.", state)
        | {"student_projection_head.weight": torch.ones(4, 4)}
    ),
    "lightly-train task": lambda state: below("backbone._model_wrapper._model.backbone.", state),
    "trained student": lambda state: below("model.student.backbone.", state),
}


def assert_loaded(model, ours):
    state = model.state_dict()
    assert ours
    for key, tensor in ours.items():
        if key.startswith("out_norms.") and key not in state:
            continue
        assert torch.equal(state[key], tensor.reshape(state[key].shape)), key
    for key in state.keys() - ours.keys():  # a norm before a classifier is no output norm
        assert key.startswith("out_norms.") and (state[key] == key.endswith("weight")).all(), key


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_through_config_and_init_weights(name, tmp_path):
    config, write = LAYOUTS[name]
    writer = write()
    torch.save(writer.state_dict, tmp_path / "w.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "w.pth"))
    model = MODELS.build(dict(config, init_cfg=init_cfg))
    model.init_weights()
    assert_loaded(model, writer.ours)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["poolformer", "convnext"])
def test_every_wrapping(name, wrapping, tmp_path):
    config, write = LAYOUTS[name]
    writer = write()
    torch.save(WRAPPINGS[wrapping](writer.state_dict), tmp_path / "w.pth")
    model = MODELS.build(config)
    report = load_weights(model, tmp_path / "w.pth")
    assert report.ok
    assert_loaded(model, writer.ours)


@pytest.mark.parametrize(
    ("name", "wrapping"),
    [*((name, "bare") for name in LAYOUTS if " " not in name), ("caformer", "whole model")],
)
def test_our_own_layout(name, wrapping, tmp_path):
    config, write = LAYOUTS[name]
    with torch.device("meta"):
        shapes = MODELS.build(config).state_dict()
    state = {
        key: torch.randn(value.shape) if value.is_floating_point() else torch.tensor(5)
        for key, value in shapes.items()
    }
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "w.pth")
    model = MODELS.build(config)
    report = load_weights(model, tmp_path / "w.pth")
    assert report.layout == "mmplugins"
    assert report.prefix == ("backbone." if wrapping == "whole model" else "")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


@pytest.mark.parametrize("write", ["safetensors", "legacy"])
def test_file_formats(write, tmp_path):
    config, writer = LAYOUTS["convformer"][0], LAYOUTS["convformer"][1]()
    path = tmp_path / "named_like_anything.bin"
    if write == "safetensors":
        save_file(writer.state_dict, path)
    else:
        torch.save(writer.state_dict, path, _use_new_zipfile_serialization=False)
    model = MODELS.build(config)
    load_weights(model, path)
    assert_loaded(model, writer.ours)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_models(dtype, tmp_path):
    config, write = LAYOUTS["poolformer"]
    state = {key: value.to(dtype) for key, value in write().state_dict.items()}
    torch.save(state, tmp_path / "w.pth")
    model = MODELS.build(config)
    load_weights(model, tmp_path / "w.pth")
    weight = model.state_dict()["stem.conv.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["patch_embed.proj.weight"].float())


TIMM_NAMES = dict(
    PoolFormer="poolformer_s12",
    PoolFormerV2="poolformerv2_s12",
    ConvFormer="convformer_s18",
    CAFormer="caformer_s18",
    ConvNeXt="convnext_tiny",
)


def timm_model(family, features_only):
    """A model of timm's own making, in which no two numbers are alike."""
    import timm

    model = timm.create_model(TIMM_NAMES[family], features_only=features_only).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.copy_(noise if parameter.ndim > 1 else noise + ("bias" not in name))
    return model


@pytest.mark.parametrize(
    ("family", "features_only"),
    [(family, False) for family in TIMM_NAMES if family not in ("PoolFormerV2", "ConvFormer")]
    + [("CAFormer", True)]
    + [
        pytest.param(family, only, marks=pytest.mark.slow)
        for family, only in (("PoolFormerV2", False), ("ConvFormer", False), ("ConvNeXt", True))
    ],
)
def test_files_of_timm_give_the_features_of_timm(family, features_only, tmp_path):
    reference = timm_model(family, features_only)
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "w.safetensors"))
    arch = TIMM_NAMES[family].split("_")[1]
    config = dict(type=family, arch=arch, out_norm=None, init_cfg=init_cfg)
    with torch.device("meta"):  # spares the random start
        model = MODELS.build(config)
    model.to_empty(device="cpu").eval().init_weights()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = (
            reference(images)
            if features_only
            else reference.forward_intermediates(images, intermediates_only=True)
        )
        for ours, theirs in zip(model(images), maps, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())


def test_timm_backbone_takes_timm_files(tmp_path):
    import timm

    source = timm.create_model("resnet18")
    state = {
        k: torch.randn_like(v) if v.is_floating_point() else v
        for k, v in source.state_dict().items()
    }
    save_file(state, tmp_path / "w.safetensors")
    model = MODELS.build(dict(type="TimmBackbone", model_name="resnet18"))
    report = load_weights(model, tmp_path / "w.safetensors")
    assert report.ok and set(report.absent) == {"fc.weight", "fc.bias"}
    assert torch.equal(
        model.state_dict()["body.layer4.0.conv1.weight"], state["layer4.0.conv1.weight"]
    )
    assert "stage 3" in str(report)
    assert len(report.matched) == len(model.state_dict())


class Detector(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.backbone = MODELS.build(LAYOUTS[name][0])
        self.head = torch.nn.Linear(3, 2)


def test_plain_load_checkpoint_of_a_whole_detector_goes_on(tmp_path):
    """mmengine's own loader, as load_from uses it: foreign names below `backbone.`, and a head."""
    writer = LAYOUTS["caformer"][1]()
    head = {"head.weight": torch.randn(2, 3), "head.bias": torch.randn(2)}
    state = below("backbone.", writer.state_dict) | head
    torch.save(dict(state_dict=state), tmp_path / "w.pth")
    model = Detector("caformer")
    load_checkpoint(model, str(tmp_path / "w.pth"), map_location="cpu")
    assert_loaded(model.backbone, writer.ours)
    assert torch.equal(model.head.weight, head["head.weight"])


def test_loading_a_detector_leaves_its_head(tmp_path):
    writer = LAYOUTS["poolformer"][1]()
    torch.save(WRAPPINGS["whole model"](writer.state_dict), tmp_path / "w.pth")
    model = Detector("poolformer")
    head = model.head.weight.clone()
    report = load_weights(model, tmp_path / "w.pth")
    assert report.outside == 4
    assert_loaded(model.backbone, writer.ours)
    assert torch.equal(model.head.weight, head)


def test_every_family_with_layouts_is_tested_here():
    with_layouts = {family for family, cls in families().items() if cls.layouts}
    assert with_layouts == {config["type"].lower() for config, _ in LAYOUTS.values()}
