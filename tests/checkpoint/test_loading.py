"""The report: what is loaded, what is named, and why."""

import copy
import re

import pytest
import torch
import written_layouts as written
from mmengine.model import BaseModule
from small_models import meta, small, weights_of

from mmplugins.checkpoint import (
    CheckpointError,
    MismatchError,
    check_weights,
    load_weights,
)


@pytest.mark.parametrize("form", ["trained", "deployed"])
def test_both_forms_load_into_a_deployed_backbone(save, form):
    trained = small("PoolFormer").eval()
    with torch.no_grad():
        for p in trained.parameters():
            p.copy_(torch.randn_like(p) / 4)
    deployed = copy.deepcopy(trained).switch_to_deploy()
    path = save((trained if form == "trained" else deployed).state_dict())
    model = small("PoolFormer").eval().switch_to_deploy()
    assert check_weights(model, path).ok
    report = load_weights(model, path)
    assert report.ok and not report.absent
    for key, value in model.state_dict().items():
        assert torch.equal(value, deployed.state_dict()[key])


def test_the_deploy_form_is_refused_by_a_backbone_in_trained_form(save):
    path = save(small("PoolFormer").eval().switch_to_deploy().state_dict())
    model = small("PoolFormer")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(MismatchError, match="cause: the file holds the deployed form"):
        load_weights(model, path)
    with pytest.raises(ValueError, match="Weights in deployed form for a PoolFormer"):
        load_weights(model, path, strict=False)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_table_counts_by_stage(save):
    writer = written.poolformer_official()
    report = load_weights(small("PoolFormer"), save(writer.state_dict))
    lines = (line.strip() for line in str(report).splitlines())
    rows = {re.split(r"\s{2,}", line)[0]: line.split() for line in lines}
    assert rows["stem"][1:] == ["2", "-", "-", "-", "-", "-"]
    # per block 2 norms, 2 layers, of 2 tensors each, and 2 scales; downsampling 2 tensors
    assert rows["stage 0"][2] == "10" and rows["stage 1"][2] == "22" and rows["stage 2"][2] == "32"
    assert rows["output norms"][-1] == "8" and rows["classifier"][-1] == "4"
    assert rows["all"][1:] == ["78", "0", "0", "0", "0", "12"]
    assert report.layout == "official" and report.ok


def test_init_weights_logs_the_report_once(save, monkeypatch):
    lines = []
    monkeypatch.setattr(
        "mmplugins.checkpoint.loading.print_log", lambda text, *args, **kwargs: lines.append(text)
    )
    path = save(written.poolformer_official().state_dict)
    small("PoolFormer", init_cfg=dict(type="Pretrained", checkpoint=path)).init_weights()
    assert len(lines) == 1 and "stage 3" in lines[0] and path in lines[0]


def test_other_modules_are_initialised_by_mmengine(save):
    class Other(BaseModule):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.fc = torch.nn.Linear(2, 2)

    state = {"fc.weight": torch.ones(2, 2), "surplus": torch.ones(1)}  # mmengine only warns
    other = Other(init_cfg=dict(type="Pretrained", checkpoint=save(state)))
    bias = other.fc.bias.clone()
    other.init_weights()
    assert torch.equal(other.fc.weight, state["fc.weight"]) and torch.equal(other.fc.bias, bias)


def test_misfits_are_errors_and_leave_the_model_alone(save):
    state = written.poolformer_official().state_dict
    del state["network.4.1.mlp.fc1.bias"]
    state["network.4.1.mlp.fc1.bais"] = torch.ones(4)
    state["network.0.0.norm1.weight"] = torch.ones(5)
    model = small("PoolFormer", init_cfg=dict(type="Pretrained", checkpoint=save(state)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(MismatchError) as caught:
        model.init_weights()
    report = caught.value.report
    assert report.missing == ["stages.2.blocks.1.mlp.fc1.bias"]
    assert report.unexpected == ["stages.2.blocks.1.mlp.fc1.bais"]
    assert report.mismatched == {
        "stages.0.blocks.0.norm1.weight": "(5,) in the file, (32,) in the model"
    }
    message = str(caught.value)
    assert "mlp.fc1.bias (nearest in the file: stages.2.blocks.1.mlp.fc1.bais)" in message
    assert "strict=False" in message and "w.pth" in message
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_strict_false_must_be_asked_for_and_loads_the_rest(save):
    writer = written.poolformer_official()
    state = writer.state_dict
    del state["network.4.1.mlp.fc1.bias"]
    init_cfg = dict(type="Pretrained", checkpoint=save(state), strict=False)
    model = small("PoolFormer", init_cfg=init_cfg)
    model.init_weights()
    loaded = model.state_dict()
    for key, value in writer.ours.items():
        if key != "stages.2.blocks.1.mlp.fc1.bias":
            assert torch.equal(loaded[key], value)


def test_whole_numbers_do_not_become_weights(save):
    state = written.poolformer_official().state_dict
    state["network.0.0.norm1.weight"] = torch.ones(32, dtype=torch.int64)
    with pytest.raises(MismatchError, match="torch.int64 in the file, torch.float32 in the model"):
        load_weights(small("PoolFormer"), save(state))


def test_bad_numbers_in_the_backbone_are_refused_and_in_heads_ignored(save):
    state = {f"backbone.{k}": v for k, v in written.poolformer_official().state_dict.items()}
    state["head.weight"] = torch.tensor([float("inf")])
    load_weights(small("PoolFormer"), save(state))
    state["backbone.network.0.0.norm1.weight"][3] = float("nan")
    with pytest.raises(CheckpointError, match="NaN.* in network.0.0.norm1.weight"):
        load_weights(small("PoolFormer"), save(state))


def test_stages_not_built_are_absent_as_expected(save):
    writer = written.baselines_official("caformer")
    report = load_weights(small("CAFormer", out_indices=(0, 2)), save(writer.state_dict))
    assert report.ok
    reasons = set(report.absent.values())
    assert any("stage not built (out_indices=(0, 2))" in reason for reason in reasons)
    assert sum(key.startswith("stages.3") for key in report.absent) == 13


def test_output_norms_of_other_stages_are_absent_as_expected(save):
    path = save(small("PoolFormer").state_dict())
    assert load_weights(small("PoolFormer", out_indices=(3,)), path).ok
    assert load_weights(small("PoolFormer", out_norm=None), path).ok


def test_two_backbones_in_one_file_need_a_choice(save):
    first, second = written.poolformer_official(), written.poolformer_official()
    state = {f"student.{k}": v + 1 for k, v in first.state_dict.items()}
    state |= {f"teacher.{k}": v for k, v in second.state_dict.items()}
    path = save(state)
    with pytest.raises(CheckpointError, match="'student.', 'teacher.'|'teacher.', 'student.'"):
        load_weights(small("PoolFormer"), path)
    init_cfg = dict(type="Pretrained", checkpoint=path, prefix="teacher")
    model = small("PoolFormer", init_cfg=init_cfg)
    model.init_weights()
    assert torch.equal(model.state_dict()["stem.conv.bias"], state["teacher.patch_embed.proj.bias"])
    with pytest.raises(CheckpointError, match="no keys under 'backbone.'.*student, teacher"):
        load_weights(small("PoolFormer"), path, prefix="backbone")


def test_a_model_without_our_backbone_is_a_type_error(save):
    with pytest.raises(TypeError, match="Linear is no backbone of mmplugins"):
        load_weights(torch.nn.Linear(1, 1), save({"weight": torch.ones(1, 1)}))


def test_allow_unsafe_reaches_the_reader(save):
    import argparse

    content = dict(model=written.poolformer_official().state_dict, args=argparse.Namespace(lr=1))
    path = save(content)
    with pytest.raises(CheckpointError, match="Namespace"):
        small("PoolFormer", init_cfg=dict(type="Pretrained", checkpoint=path)).init_weights()
    init_cfg = dict(type="Pretrained", checkpoint=path, allow_unsafe=True)
    small("PoolFormer", init_cfg=init_cfg).init_weights()


@pytest.mark.parametrize(
    ("file", "model", "cause"),
    [
        ("poolformer_s12", "poolformer_s24", "wrong variant.*holds poolformer_s12, .*arch='s12'"),
        ("poolformer_s24", "poolformer_s12", "wrong variant.*holds poolformer_s24, .*arch='s24'"),
        ("poolformer_s12_ppff", "poolformer_s12", "wrong variant.*holds poolformer_s12_ppff"),
        ("caformer_s18", "convformer_s18", "wrong family.*holds caformer_s18.*is convformer_s18"),
        ("poolformer_s12", "poolformerv2_s12", "wrong family.*poolformer_s12.*poolformerv2_s12"),
        ("convnext_tiny", "poolformer_s12", "wrong family.*holds convnext_tiny"),
        ("poolformer_s12", "riformer_s12", "only token mixers are missing.*deploy=True"),
    ],
)
def test_causes(save, file, model, cause):
    path = save(weights_of(file))
    report = check_weights(meta(model), path)
    assert not report.ok
    assert re.search(cause, report.cause), report.cause


def test_cause_of_another_architecture(save):
    state = {f"layer{i}.{j}.conv.weight": torch.ones(3) for i in range(3) for j in range(3)}
    report = check_weights(meta("poolformer_s12"), save(state))
    assert "wrong architecture" in report.cause and "layer0, layer1, layer2" in report.cause


def test_same_tensors_are_not_called_another_family(save):
    """PoolFormerV2 and IdentityFormer differ in no tensor."""
    path = save(weights_of("poolformerv2_s12"))
    assert check_weights(meta("identityformer_s12"), path).ok
    assert "wrong variant" in check_weights(meta("poolformerv2_s24"), path).cause


def test_parts_of_a_file_are_called_so(save):
    state = weights_of("poolformer_s12")
    del state["stages.1.blocks.0.norm2.bias"]
    more = weights_of("poolformer_s12") | {"stages.0.blocks.2.norm1.weight": torch.ones(64)}
    for changed in (state, more):
        path = save(changed)
        assert "a part of poolformer_s12" in check_weights(meta("poolformer_s12"), path).cause
