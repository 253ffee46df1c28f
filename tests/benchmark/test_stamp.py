"""On what is measured: a device that is there, and what sets two stamps apart."""

from __future__ import annotations

import pytest
import torch

from mmplugins.benchmark.stamp import differences, make_stamp, summary


def test_stamp_of_the_cpu():
    stamp = make_stamp("cpu")
    assert stamp["device"] == "cpu" and stamp["gpu"] is stamp["cuda"] is None
    assert stamp["threads"] == torch.get_num_threads() and stamp["cores"] >= 1
    assert torch.__version__.startswith(stamp["packages"]["torch"])
    assert summary(stamp).endswith(f"torch {stamp['packages']['torch']}, {stamp['date'][:10]}")


def test_dates_alone_are_no_difference():
    stamp = make_stamp("cpu")
    assert differences(stamp, dict(stamp, date="another day")) == []
    threads = stamp["threads"]
    assert differences(stamp, dict(stamp, threads=99)) == [f"threads: {threads!r}, now 99"]


@pytest.mark.parametrize("device", ["abacus", "meta", "cpu:x"])
def test_what_is_no_device(device):
    with pytest.raises(ValueError, match=f"device '{device}': expected 'cpu', 'cuda' or 'cuda:1'"):
        make_stamp(device)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device 'cuda': torch .* finds 0 GPUs here"):
        make_stamp("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="device 'cuda:2': torch .* finds 2 GPUs"):
        make_stamp("cuda:2")
