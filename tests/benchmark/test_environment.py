"""On what is measured: a device that is there, and what sets two environments apart."""

from __future__ import annotations

import pytest
import torch

from mmplugins.benchmark.environment import describe_environment, differences, summary


def test_stamp_of_the_cpu():
    environment = describe_environment("cpu")
    assert environment["device"] == "cpu" and environment["gpu"] is environment["cuda"] is None
    assert environment["threads"] == torch.get_num_threads() and environment["cores"] >= 1
    assert torch.__version__.startswith(environment["packages"]["torch"])
    assert summary(environment).endswith(
        f"torch {environment['packages']['torch']}, {environment['date'][:10]}"
    )


def test_dates_alone_are_no_difference():
    environment = describe_environment("cpu")
    assert differences(environment, dict(environment, date="another day")) == []
    threads = environment["threads"]
    assert differences(environment, dict(environment, threads=99)) == [
        f"threads: {threads!r}, now 99"
    ]


@pytest.mark.parametrize("device", ["abacus", "meta", "cpu:x"])
def test_what_is_no_device(device):
    with pytest.raises(ValueError, match=f"device '{device}': expected 'cpu', 'cuda' or 'cuda:1'"):
        describe_environment(device)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device 'cuda': torch .* finds 0 GPUs here"):
        describe_environment("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="device 'cuda:2': torch .* finds 2 GPUs"):
        describe_environment("cuda:2")
