"""Fixtures of the checkpoint tests: empty caches, a small web server, a true weight file."""

import shutil

import pytest
import torch
from loopback import Site

import mmplugins  # noqa: F401 - registers backbones, schemes and the initialiser


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    """Point all caches to an empty folder, and leave no heaps of weights behind."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    for name in ("MMPLUGINS_WEIGHTS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def weight_file(tmp_path):
    """A small true weight file."""
    path = tmp_path / "true.pth"
    torch.save({"stem.conv.weight": torch.arange(4000.0)}, path)
    return path


@pytest.fixture
def save(tmp_path):
    """Write something with torch.save and return its path."""

    def write(content, name="w.pth"):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write
