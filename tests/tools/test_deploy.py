from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from safetensors.torch import load_file

from mmplugins.deployment import largest_difference, raw_outputs, reparameterize
from mmplugins.engine import SettingError, load_composed

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["detection", "segmentation"])
def trained(request, folder):
    """A config, and a checkpoint in trained form that fits it."""
    config = request.getfixturevalue(request.param)
    torch.manual_seed(0)
    model = build(config)
    checkpoint = folder / f"{request.param}.pth"
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint, model


def build(config):
    cfg = load_composed(str(config), None, None)
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model).eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_written_file_gives_the_same_outputs(trained, suffix, tmp_path, call, capsys):
    config, checkpoint, model = trained
    out = tmp_path / f"deployed{suffix}"
    call("deploy", config, checkpoint, "--out", out, "--size", 64, 96)
    said = capsys.readouterr().out
    assert "outputs differ by" in said and "reparameterize(model.eval())" in said

    weights = load_file(out) if suffix == ".safetensors" else torch.load(out)["state_dict"]
    loaded = reparameterize(build(config))
    loaded.load_state_dict(weights)
    image = torch.randn(1, 3, 64, 64)
    expected = raw_outputs(model, image)
    assert largest_difference(raw_outputs(loaded, image), expected) < 1e-5

    with pytest.raises(FileExistsError, match="overwrite"):
        call("deploy", config, checkpoint, "--out", out)
    call("deploy", config, checkpoint, "--out", out, "--overwrite")


def test_stands_beside_the_checkpoint_unless_told(trained, call):
    config, checkpoint, _ = trained
    call("deploy", config, checkpoint)
    assert checkpoint.with_name(f"{checkpoint.stem}_deploy.safetensors").is_file()


def test_both_forms_are_tested_in_deploy_form(detection, folder, call):
    """Boxes are those of the trained form, from a file of either form."""
    torch.manual_seed(0)
    checkpoint, deployed = folder / "seeded.pth", folder / "seeded_deploy.pth"
    torch.save(dict(state_dict=build(detection).state_dict(), meta={}), checkpoint)
    call("deploy", detection, checkpoint, "--out", deployed)
    found = []
    for file, options in [(checkpoint, ()), (checkpoint, ("--deploy",)), (deployed, ("--deploy",))]:
        out = folder / f"boxes_{len(found)}"
        call("test", detection, file, "--work-dir", out, "--out", f"{out}.pkl", *options)
        found.append([image["pred_instances"] for image in mmengine.load(f"{out}.pkl")])
    assert any(len(boxes["scores"]) for boxes in found[0])
    for others in found[1:]:
        for boxes, expected in zip(others, found[0], strict=True):
            torch.testing.assert_close(boxes["scores"], expected["scores"], rtol=1e-4, atol=1e-6)


def test_averaged_augmented_and_deployed(detection, folder, call):
    """EMA, channels-last, ``--tta`` and ``--deploy`` together find the boxes of ``--tta`` alone."""
    torch.manual_seed(0)
    checkpoint, deployed = folder / "all.pth", folder / "all_deploy.pth"
    torch.save(dict(state_dict=build(detection).state_dict(), meta={}), checkpoint)
    call("deploy", detection, checkpoint, "--out", deployed)
    averaged = folder / "averaged.py"
    hooks = "[dict(type='EMAHook'), dict(type='ChannelsLastHook')]"
    averaged.write_text(f"_base_ = {str(detection)!r}\ncustom_hooks = {hooks}\n")
    found = []
    for config, file, options in [
        (detection, checkpoint, ()),
        (averaged, checkpoint, ("--deploy",)),
        (averaged, deployed, ("--deploy",)),
    ]:
        out = folder / f"all_{len(found)}"
        flags = ("--work-dir", out, "--out", f"{out}.pkl", "--tta", *options)
        call("test", config, file, *flags)
        found.append([image["pred_instances"]["scores"] for image in mmengine.load(f"{out}.pkl")])
    assert any(len(scores) for scores in found[0])
    for others in found[1:]:
        for scores, expected in zip(others, found[0], strict=True):
            torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_hook_is_for_tests_only(detection, folder, call):
    config = folder / "hooked.py"
    config.write_text(f"_base_ = {str(detection)!r}\ncustom_hooks = [dict(type='DeployHook')]\n")
    with pytest.raises(RuntimeError, match="for inference"):
        call("train", config, "--work-dir", folder / "hooked")


def test_deployed_file_is_not_deployed_again(trained, tmp_path, call):
    config, checkpoint, _ = trained
    out = tmp_path / "once.pth"
    call("deploy", config, checkpoint, "--out", out)
    with pytest.raises(ValueError, match="deploy form"):
        call("deploy", config, out, "--out", tmp_path / "twice.pth")
    assert not (tmp_path / "twice.pth").exists()


def test_a_distillation_is_exported_first(tmp_path, call):
    config = ROOT / "configs/riformer/semantic-fpn_riformer-s12_distill-poolformer-s12_shapes.py"
    with pytest.raises(SettingError, match=r"'Distiller' in .* write the student first"):
        call("deploy", config, tmp_path / "none.pth")
