"""Layer decay against the rule of ConvNeXt's authors, and for every other backbone."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

import mmplugins.engine.layer_decay as layer_decay
from mmplugins import build_backbone, compile_blocks, list_backbones
from mmplugins.backbones.convnext import official_pairs
from mmplugins.engine.layer_decay import LayerDecayOptimWrapperConstructor

LR, DECAY = 2e-4, 0.05


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Conv2d(8, 8, 1)


def build(model: nn.Module, fused: bool = False, **paramwise):
    wrapper = dict(
        type="OptimWrapper",
        constructor="LayerDecayOptimWrapperConstructor",
        paramwise_cfg=paramwise,
        optimizer=dict(type="AdamW", lr=LR, weight_decay=DECAY, fused=fused),
    )
    return build_optim_wrapper(model, ConfigDict(wrapper))


def settings_of(model: nn.Module, wrapper) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter in the optimiser, by its name."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in wrapper.optimizer.param_groups:
        for p in group["params"]:
            assert names[id(p)] not in found, "a parameter in two groups"
            found[names[id(p)]] = (group["lr"], group["weight_decay"])
    return found


def official_id(name: str, kind: str, num_layers: int) -> int:
    """The layer of a parameter by its official name: the rule as the authors' text has it."""
    words = name.split(".")
    if kind == "layer_wise":
        if words[0] == "downsample_layers":
            return {0: 0, 1: 2, 2: 3, 3: num_layers}[int(words[1])]
        if words[0] == "stages":
            third = 3 + int(words[2]) // 3
            return {0: 1, 1: 2, 2: third, 3: num_layers}[int(words[1])]
        return num_layers + 1
    if words[0] == "downsample_layers":
        return 0
    return int(words[1]) + 1 if words[0] == "stages" else num_layers + 1


@pytest.mark.parametrize(("kind", "rate"), [("layer_wise", 0.7), ("stage_wise", 0.9)])
@pytest.mark.parametrize(("arch", "num_layers"), [("tiny", 6), ("small", 12)])
def test_convnext_as_the_authors_have_it(arch, num_layers, kind, rate):
    with torch.device("meta"):
        model = Detector(build_backbone(f"convnext_{arch}"))
    from mmdet.engine.optimizers import layer_decay_optimizer_constructor as mmdet_rule

    by_mmdet = getattr(mmdet_rule, f"get_{kind.removesuffix('_wise')}_id_for_convnext")
    limit = num_layers if kind == "layer_wise" else num_layers + 2
    official = dict(official_pairs(model.backbone.depths))
    found = settings_of(model, build(model, decay_rate=rate, decay_type=kind))
    assert found.keys() == dict(model.named_parameters()).keys()
    seen = set()
    for name, parameter in model.named_parameters():
        module = name.removeprefix("backbone.")
        while module and module not in official:
            module = module.rpartition(".")[0]
        theirs = official.get(module, "neck")
        layer = official_id(theirs, kind, num_layers)
        assert layer == by_mmdet(f"backbone.{theirs}", limit)
        seen.add(layer)
        lr, weight_decay = found[name]
        assert lr == pytest.approx(LR * rate ** (num_layers + 2 - layer - 1)), name
        assert weight_decay == (0 if parameter.ndim == 1 else DECAY), name
    every = range(num_layers + 2) if kind == "layer_wise" else [*range(5), num_layers + 1]
    assert seen == set(every)


NAMES = [*list_backbones(), "timm/resnet18", "timm/swin_tiny_patch4_window7_224"]
SMALLEST = [n for n in NAMES if n.endswith(("_s12", "_s18", "_t", "_tiny", "timm/resnet18", "224"))]


@pytest.mark.parametrize("kind", ["layer_wise", "stage_wise"])
@pytest.mark.parametrize("name", SMALLEST)
def test_every_family(name, kind):
    """Each trainable parameter is there once; rates rise from the stem to the heads."""
    with torch.device("meta"):
        model = Detector(build_backbone(name, out_norm="LN"))
    found = settings_of(model, build(model, decay_rate=0.8, decay_type=kind))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trained
    rates = {n: lr for n, (lr, _) in found.items()}
    assert rates["neck.weight"] == rates["backbone.out_norms.0.weight"] == LR
    backbone = model.backbone
    if name.startswith("timm/"):
        stage_of = {f"backbone.body.{n}": s for n, s in backbone.found.stage_of.items()}
    else:
        parts = (n.split(".") for n in trained if ".stages." in n and ".blocks." in n)
        stage_of = {".".join(p): int(p[2]) for p in parts}
        stage_of |= {n: -1 for n in trained if n.startswith("backbone.stem.")}
    highest = [max(rates[n] for n in stage_of if stage_of[n] == s) for s in (-1, 0, 1, 2, 3)]
    assert highest == sorted(highest) and len(set(highest)) == 5 and highest[-1] < LR
    assert min(rates.values()) == highest[0]


def test_one_dimension_biases_and_position_embeddings_are_not_decayed():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.pos_embed = nn.Parameter(torch.zeros(1, 4, 2, 2))
            self.conv = nn.Conv2d(4, 4, 1)
            self.table = nn.Module()
            self.table.bias = nn.Parameter(torch.zeros(2, 2))

        def get_layer_depth(self, name, prefix=""):
            return 0, 3

    model = Detector(Own())
    found = settings_of(model, build(model, decay_rate=0.5))
    decayed = {name for name, (_, weight_decay) in found.items() if weight_decay}
    assert decayed == {"backbone.conv.weight", "neck.weight"}
    assert found["backbone.pos_embed"] == (LR / 4, 0)


def test_compiled_blocks_stay_in_their_groups():
    model = Detector(build_backbone("poolformerv2_s12"))
    expected = settings_of(model, build(model, decay_rate=0.9))
    compile_blocks(model, backend="eager")
    assert settings_of(model, build(model, decay_rate=0.9)) == expected


def test_a_fused_optimiser_takes_the_same_steps():
    """Up to the rounding of float32, which a step of 2e-4 shows in the seventh digit."""
    torch.manual_seed(0)
    model = Detector(build_backbone("poolformerv2_s12"))
    twin = copy.deepcopy(model)
    wrappers = [build(m, fused=m is twin, decay_rate=0.9) for m in (model, twin)]
    assert [w.optimizer.defaults["fused"] for w in wrappers] == [False, True]
    for _ in range(5):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for wrapper in wrappers:
            wrapper.optimizer.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-6, atol=1e-7)


def test_frozen_parameters_are_left_out():
    model = Detector(build_backbone("poolformer_s12", frozen_stages=1))
    found = settings_of(model, build(model, decay_rate=0.9))
    assert not any(name.startswith(("backbone.stem", "backbone.stages.0")) for name in found)
    assert any(name.startswith("backbone.stages.1") for name in found)


def test_models_around_models():
    """Teacher and student: each backbone counts its own layers; a frozen one may have no rule."""
    model = nn.Module()
    model.student = Detector(build_backbone("poolformer_s12"))
    model.teacher = Detector(nn.Linear(2, 2)).requires_grad_(False)
    found = settings_of(model, build(model, decay_rate=0.5))
    assert all(name.startswith("student.") for name in found)
    depth, count = model.student.backbone.get_layer_depth("stem.conv.weight")
    assert found["student.backbone.stem.conv.weight"][0] == pytest.approx(LR * 0.5 ** (count - 1))
    assert depth == 0


@pytest.mark.parametrize("scope", ["mmdet", "mmseg"])
def test_a_detector_and_a_segmentor_see_it(scope):
    """By its bare name from the scopes of both; a ResNet of theirs has no layer depth."""
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope

    with DefaultScope.overwrite_default_scope(scope):
        with OPTIM_WRAPPER_CONSTRUCTORS.switch_scope_and_registry(scope) as registry:
            found = registry.get("LayerDecayOptimWrapperConstructor")
        assert found is LayerDecayOptimWrapperConstructor
        with MODELS.switch_scope_and_registry(scope) as models:
            resnet = models.build(dict(type="ResNet", depth=18, num_stages=4))
        with pytest.raises(ValueError, match="backbone is a ResNet, which has no get_layer_depth"):
            build(Detector(resnet), decay_rate=0.9)


def test_foreign_backbone_with_layers_but_no_stages():
    foreign = nn.Conv2d(1, 1, 1)
    foreign.get_layer_depth = lambda name, prefix: (int(name == prefix + "bias"), 3)
    model = Detector(foreign)
    found = settings_of(model, build(model, decay_rate=0.5))
    assert [found[f"backbone.{n}"][0] / LR for n in ("weight", "bias")] == [0.25, 0.5]
    with pytest.raises(ValueError, match="Conv2d, which has no get_stage_depth"):
        build(model, decay_rate=0.5, decay_type="stage_wise")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(), "decay_rate=None: expected a number"),
        (dict(decay_rate=1.5), "decay_rate=1.5: expected a number above 0 and up to 1"),
        (dict(decay_rate=0.9, decay_type="layers"), "'layers': expected one of layer_wise, stage"),
        (dict(decay_rate=0.9, num_layers=6), "has num_layers.*comes from the backbone"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        build(Detector(nn.Identity()), **settings)


def test_a_model_without_backbone_is_refused():
    with pytest.raises(ValueError, match="Linear has no part called backbone"):
        build(nn.Linear(2, 2), decay_rate=0.9)


@pytest.mark.parametrize("is_main", [True, False])
def test_groups_are_logged_once_as_a_table(is_main, monkeypatch):
    said = []
    monkeypatch.setattr(layer_decay, "is_main_process", lambda: is_main)
    monkeypatch.setattr(layer_decay, "print_log", lambda text, logger: said.append(text))
    model = Detector(build_backbone("poolformer_s12"))
    wrapper = build(model, decay_rate=0.9, decay_type="stage_wise")
    assert len(said) == is_main
    if is_main:
        title, header, *rows = said[0].splitlines()
        assert "stage_wise" in title and header.split()[0] == "group"
        assert len(rows) == len(wrapper.optimizer.param_groups) == 12
        assert rows[0].startswith("6 below the heads, no decay") and " 0.5314 " in rows[0]
        total = sum(int(row.split()[-1].replace(",", "")) for row in rows)
        assert total == sum(p.numel() for p in model.parameters())
