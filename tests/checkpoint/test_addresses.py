"""Schemes in any case, files by address, and one cached file for each address."""

from __future__ import annotations

import pytest
import torch
from loopback import Page
from mmengine.runner.checkpoint import CheckpointLoader

from mmplugins.checkpoint import CheckpointError, load_source, resolve


def test_two_addresses_with_one_last_part(site, tmp_path):
    for number, page in enumerate(("/a/model.pth", "/b/model.pth")):
        torch.save(dict(weight=torch.full((2,), float(number))), tmp_path / "file.pth")
        site.pages[page] = Page((tmp_path / "file.pth").read_bytes())
    for _ in range(2):
        for number, page in enumerate(("/a/model.pth", "/b/model.pth")):
            assert float(load_source(site.url(page))["weight"][0]) == number
    assert len(site.asked) == 2
    assert resolve(site.url("/a/model.pth")) != resolve(site.url("/b/model.pth"))


@pytest.mark.parametrize("scheme", ["file://", "FILE://"])
def test_files_by_address(tmp_path, scheme):
    path = tmp_path / "with space.pth"
    torch.save(dict(weight=torch.ones(2)), path)
    address = scheme + str(path).replace(" ", "%20")
    assert resolve(address) == path
    found = CheckpointLoader.load_checkpoint(address, map_location="cpu")
    assert torch.equal(found["weight"], torch.ones(2))


def test_a_file_of_another_machine():
    with pytest.raises(CheckpointError, match="names the machine 'there': write file:///"):
        resolve("file://there/model.pth")


def test_upper_case(site, tmp_path):
    torch.save(dict(weight=torch.ones(2)), tmp_path / "file.pth")
    site.pages["/a/model.pth"] = Page((tmp_path / "file.pth").read_bytes())
    address = site.url("/a/model.pth").replace("http://", "HTTP://")
    assert torch.equal(load_source(address)["weight"], torch.ones(2))


@pytest.mark.parametrize("scheme", ["hf", "ftp", "gs", "oss", "abc+d"])
def test_unknown_schemes_are_one_sentence(scheme):
    for load in (load_source, resolve, CheckpointLoader.load_checkpoint):
        with pytest.raises(CheckpointError, match="unknown scheme; expected a path, or"):
            load(f"{scheme}://some/model.pth")
