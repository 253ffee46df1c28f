"""What load_from and --resume accept, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from random_training import run, tiny

from mmplugins.checkpoint import CheckpointError, MismatchError, read_checkpoint
from mmplugins.engine import test as run_test
from mmplugins.engine import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("load")


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    """A segmentor of four classes after three iterations."""
    cfg = tiny("segmentation", folder, folder / "trained", **{"train_cfg.max_iters": 3})
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return run(cfg) / "iter_3.pth"


def starting_from(trained, folder, tmp_path, **changes) -> Config:
    changes = {"train_cfg.max_iters": 1, "load_from": str(trained)} | changes
    cfg = tiny("segmentation", folder, tmp_path, **changes)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def log_of(work_dir: Path) -> str:
    return "".join(path.read_text() for path in work_dir.glob("*/*.log"))


def test_other_classes(trained, folder, tmp_path):
    freeze = {"optim_wrapper.optimizer.lr": 0.0, "optim_wrapper.optimizer.weight_decay": 0.0}
    cfg = starting_from(trained, folder, tmp_path, **{"model.decode_head.num_classes": 7}, **freeze)
    done = run(cfg) / "iter_1.pth"
    old, new = (read_checkpoint(path)["state_dict"] for path in (trained, done))
    own = {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
    assert {key for key in old if old[key].shape != new[key].shape} == own
    for key, value in old.items():
        if key not in own and "running" not in key and "num_batches" not in key:
            assert torch.equal(value, new[key]), key
    log = log_of(tmp_path)
    assert "it was trained for 4): 2 start afresh: decode_head.conv_seg.weight" in log
    assert "EncoderDecoder from" in log


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.backbone.arch.dims": (8, 16, 24, 64), "model.decode_head.in_channels": 64},
         r"backbone: .* of another shape"),
        ({"model.backbone.arch.depths": (1, 1, 2, 1)}, r"backbone: \d+ missing in the file"),
        ({"model.decode_head.channels": 16}, r"decode_head: .* of another shape"),
        ({"model.decode_head.num_convs": 2}, r"decode_head: \d+ missing in the file"),
    ],
)  # fmt: skip
def test_any_other_misfit_is_an_error(trained, folder, tmp_path, changes, message):
    cfg = starting_from(trained, folder, tmp_path, **changes)
    with pytest.raises(MismatchError, match=message):
        run(cfg)


def test_not_strict_loads_what_fits(trained, folder, tmp_path):
    changes = {"model.decode_head.channels": 16, "default_hooks.load_report.strict": False}
    run(starting_from(trained, folder, tmp_path, **changes))
    assert "of another shape or dtype: decode_head" in log_of(tmp_path)


def test_nan_is_an_error(trained, folder, tmp_path):
    content = torch.load(trained)
    content["state_dict"]["decode_head.conv_seg.bias"][1] = float("nan")
    torch.save(content, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match="NaN or infinite values .* decode_head.conv_seg"):
        run(starting_from(tmp_path / "nan.pth", folder, tmp_path))


def test_a_backbone_alone(trained, folder, tmp_path):
    tensors = read_checkpoint(trained)["state_dict"]
    body = {key: value for key, value in tensors.items() if key.startswith("backbone.")}
    torch.save(dict(state_dict=body), tmp_path / "body.pth")
    run(starting_from(tmp_path / "body.pth", folder, tmp_path))
    assert "not in the file, start afresh: decode_head" in log_of(tmp_path)
    bare = {key.removeprefix("backbone."): value for key, value in body.items()}
    torch.save(bare, tmp_path / "bare.pth")
    with pytest.raises(MismatchError, match="nothing in it is of this model.*init_cfg"):
        run(starting_from(tmp_path / "bare.pth", folder, tmp_path))


def test_testing_wants_all_of_the_model(trained, folder, tmp_path):
    cfg = tiny("segmentation", folder, tmp_path, load_from=str(trained))
    _, metrics = run_test(cfg)
    assert "mIoU" in metrics
    cfg.model.decode_head.num_classes = 7
    with pytest.raises(MismatchError, match=r"decode_head: 2 of another shape.*conv_seg") as error:
        run_test(cfg)
    assert "the config that the file was trained with" in str(error.value)
    assert "strict=False" not in str(error.value), "it would drop trained weights"


def test_resuming_wants_all_of_the_model(trained, folder, tmp_path):
    changes = {"train_cfg.max_iters": 5, "model.decode_head.num_classes": 7}
    cfg = starting_from(trained, folder, tmp_path, resume=True, **changes)
    with pytest.raises(MismatchError, match="decode_head"):
        train(cfg)


def test_pretrained_given_as_a_class(trained, folder, tmp_path):
    from mmengine.model import PretrainedInit

    cfg = tiny("segmentation", folder, tmp_path).model.backbone
    cfg.init_cfg = dict(type=PretrainedInit, checkpoint=str(trained), prefix="backbone.")
    backbone = MODELS.build(cfg)
    backbone.init_weights()
    stem = "stem.conv.weight" if "stem.conv.weight" in backbone.state_dict() else None
    key = stem or next(iter(backbone.state_dict()))
    expected = read_checkpoint(trained)["state_dict"][f"backbone.{key}"]
    assert torch.equal(backbone.state_dict()[key], expected)
    cfg.arch.depths = (1, 1, 2, 1)
    with pytest.raises(MismatchError):  # mmengine's own class would only log it
        MODELS.build(cfg).init_weights()
