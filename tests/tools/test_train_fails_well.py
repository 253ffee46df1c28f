"""How train.py and test.py end where something is in the way: one line, the right status."""

from __future__ import annotations

import pytest
import torch

from mmplugins.checkpoint import read_checkpoint
from mmplugins.engine import SettingError


@pytest.fixture
def status(end):
    """What ``train.py`` leaves to say; Python makes status 1 of a text."""

    def status(*args: object) -> str:
        said = end("train", *args)
        assert isinstance(said, str) and "\n" not in said
        return said

    return status


def test_a_training_that_diverges(segmentation, folder, status):
    options = ["optim_wrapper.optimizer.lr=1e30", "train_cfg.max_iters=12"]
    options += ["default_hooks.finite_loss.interval=2", "default_hooks.checkpoint.interval=100"]
    args = ("--work-dir", folder / "diverged", "--no-check", "--cfg-options", *options)
    said = status(segmentation, *args)
    assert said.startswith("error: the loss was not finite for") and "learning rate" in said
    assert not list((folder / "diverged").glob("*.pth"))


def test_a_checkpoint_from_elsewhere_wants_a_folder_of_its_own(segmentation, folder, call):
    used, other = folder / "used", folder / "other"
    for place in (used, other):
        place.mkdir()
        (place / "iter_2.pth").write_text("another training")
    with pytest.raises(SettingError, match=r"used' holds 1 checkpoint.*give another --work-dir"):
        call("train", segmentation, "--work-dir", used, "--resume", other / "iter_2.pth")
    assert [path.name for path in used.iterdir()] == ["iter_2.pth"]


def test_places_that_cannot_be_used(segmentation, folder, status, call):
    (folder / "pointer/last_checkpoint").mkdir(parents=True)
    said = status(segmentation, "--work-dir", folder / "pointer", "--resume")
    assert "last_checkpoint is a folder" in said
    (folder / "file").write_text("")
    place = folder / "file/work"  # as on a disk that is mounted for reading, whoever asks
    said = status(segmentation, "--work-dir", place, "--no-check")
    assert said.startswith("error: ") and "file" in said
    with pytest.raises(SettingError, match="cannot be written"):
        call("test", segmentation, folder / "file", "--work-dir", place)


def test_testing_never_resumes(segmentation, folder, call, tmp_path, capsys):
    work_dir = folder / "resumed"
    call("train", segmentation, "--work-dir", work_dir)
    content = read_checkpoint(work_dir / "iter_2.pth")
    torch.save(dict(state_dict=content["state_dict"]), tmp_path / "weights.pth")
    options = ("--work-dir", tmp_path / "work", "--cfg-options", "resume=True")
    capsys.readouterr()
    call("test", segmentation, tmp_path / "weights.pth", *options)
    assert "mIoU" in capsys.readouterr().out
