import re

import pytest
import torch
import written_layouts
from loopback import Page
from mmengine.registry import MODELS
from mmengine.runner import checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from mmplugins.checkpoint import CheckpointError, sources, zoo
from mmplugins.checkpoint.download import DownloadError
from mmplugins.checkpoint.sources import fetch, load_source, resolve, timm_sources
from mmplugins.checkpoint.zoo import PublishedWeights, Source


@pytest.fixture
def publish(monkeypatch):
    """Function that pretends that `fancy_s12` was published at some addresses."""

    def publish(*hosts):
        weights = PublishedWeights("fancy_s12", "poolformer_s12", "ImageNet-1K, 224", hosts)
        monkeypatch.setattr(zoo, "published", lambda: {"fancy_s12": weights})

    return publish


@pytest.fixture
def published(publish, site):
    """Pretend that it was published on two hosts."""
    publish(*(Source(site.url(f"/{host}/w.pth"), f"{host}.pth") for host in ("a", "b")))


def test_second_host_serves_when_the_first_does_not(site, published, weight_file):
    site.pages["/a/w.pth"] = Page(b"<html>gone</html>", kind="text/html")
    site.pages["/b/w.pth"] = Page(weight_file.read_bytes())
    path = resolve("metaformer://fancy_s12")
    assert path == sources.cache_folder() / "b.pth"
    assert path.read_bytes() == weight_file.read_bytes()
    # and from now on no host is asked
    site.pages.clear()
    assert resolve("metaformer://fancy_s12") == path
    assert len(site.asked) == 2


def test_failure_names_hosts_and_the_way_by_hand(site, published):
    site.pages["/b/w.pth"] = Page(b"<html>", kind="text/html")
    with pytest.raises(DownloadError) as caught:
        resolve("metaformer://fancy_s12")
    message = str(caught.value)
    assert "metaformer://fancy_s12" in message
    assert re.search(r"127\.0\.0\.1: .*404", message)
    assert re.search(r"127\.0\.0\.1: .*web page", message)
    assert site.url("/a/w.pth") in message and "as  a.pth" in message
    assert str(sources.cache_folder()) in message and "MMPLUGINS_WEIGHTS" in message


def test_offline_asks_nobody(site, published, weight_file, monkeypatch):
    site.pages["/a/w.pth"] = Page(weight_file.read_bytes())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        resolve("metaformer://fancy_s12")
    assert site.asked == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert resolve("metaformer://fancy_s12").is_file()


def test_offline_folder_comes_first(site, published, weight_file, tmp_path, monkeypatch):
    folder = tmp_path / "carried over"
    folder.mkdir()
    (folder / "b.pth").write_bytes(weight_file.read_bytes())
    monkeypatch.setenv("MMPLUGINS_WEIGHTS", f"/nowhere:{folder}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("metaformer://fancy_s12") == folder / "b.pth"
    assert site.asked == []


@pytest.mark.parametrize("revision", ["main", "v2"])
def test_file_in_the_hub_cache_is_used_for_its_own_revision(
    tmp_path, weight_file, monkeypatch, revision
):
    repo = tmp_path / "hf" / "models--timm--caformer_s18.sail_in1k"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / revision).write_text("c0ffee")
    snapshot = repo / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(weight_file.read_bytes())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    address = "https://huggingface.co/timm/caformer_s18.sail_in1k/resolve/{}/model.safetensors?a=1"
    assert resolve(address.format(revision)).samefile(snapshot / "model.safetensors")
    other = {"main": address.format("v2"), "v2": "timm://caformer_s18"}[revision]
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        resolve(other)


def test_mirror_of_the_hub_is_used(site, weight_file, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", site.url(""))
    address = "/timm/poolformer_s12.sail_in1k/resolve/main/model.safetensors"
    site.pages[address] = Page(weight_file.read_bytes())
    path = resolve("timm://poolformer_s12.sail_in1k")
    assert path.name == "timm_poolformer_s12.sail_in1k.safetensors"
    assert path.read_bytes() == weight_file.read_bytes()


def test_timm_default_tag_and_tags():
    name = "caformer_s18.sail_in22k_ft_in1k_384"
    first = timm_sources(name)[0]
    assert first.url == f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
    assert timm_sources("poolformer_m48")[0].url.startswith(
        "https://huggingface.co/timm/poolformer_m48.sail_in1k/"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm://cafrmer_s18", "no model 'cafrmer_s18'.*Did you mean .*caformer_s18"),
        ("timm://caformer_s18.sail_in2k", "no weights .*expected one of .*sail_in1k, .*sail_in22k"),
        ("metaformer://caformer_s19", "Did you mean 'caformer_s18'"),
        ("metaformer://smlpnet_t", "released no weights of sMLPNet-T"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        resolve(name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("form", ["path", "address", "name"])
def test_mmengine_loads_every_form(site, tmp_path, publish, suffix, form):
    state = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(dict(state_dict=state, meta=dict(epoch=1)), path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    site.pages[f"/w{suffix}"] = Page(path.read_bytes())
    address = site.url(f"/w{suffix}")
    publish(Source(address, f"fancy{suffix}"))
    source = {"path": str(path), "address": address, "name": "metaformer://fancy_s12"}[form]
    model = torch.nn.Module()
    model.backbone = torch.nn.Linear(3, 2)
    if form != "name":  # that one puts the weights where detectors have their backbone
        model = model.backbone
    load_checkpoint(model, source, map_location="cpu", strict=True)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key.removeprefix("backbone.")])


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("whole", [False, True], ids=["backbone", "detector"])
def test_published_weights_as_load_from(site, tmp_path, publish, prefix, whole):
    """What Runner does with `load_from='metaformer://...'`, of the authors and of mmpretrain."""
    writer = written_layouts.convnext()
    state = {prefix + key: value for key, value in writer.state_dict.items()}
    path = tmp_path / "w.pth"
    torch.save(dict(model=state, epoch=3), path)
    site.pages["/w.pth"] = Page(path.read_bytes())
    publish(Source(site.url("/w.pth"), "fancy.pth"))
    arch = dict(depths=written_layouts.DEPTHS, dims=written_layouts.DIMS)
    backbone = MODELS.build(dict(type="ConvNeXt", arch=arch))
    model = backbone
    if whole:
        model = torch.nn.Module()
        model.backbone, model.head = backbone, torch.nn.Linear(1, 1)
    load_checkpoint(model, "metaformer://fancy_s12", map_location="cpu")
    loaded = backbone.state_dict()
    for key, value in writer.ours.items():
        assert torch.equal(loaded[key], value.reshape(loaded[key].shape))


def test_other_schemes_of_mmengine_go_on_working():
    state = dict(weight=torch.ones(2))
    CheckpointLoader.register_scheme("elsewhere://", lambda filename, map_location: state)
    try:
        assert load_source("elsewhere://a.pth") is state
    finally:
        del CheckpointLoader._schemes["elsewhere://"]


def test_fetch_prefers_what_is_here_to_an_earlier_host(site, weight_file):
    folder = sources.cache_folder()
    folder.mkdir(parents=True)
    (folder / "late.pth").write_bytes(weight_file.read_bytes())
    choices = (Source(site.url("/early.pth"), "early.pth"), Source("http://x/late.pth", "late.pth"))
    assert fetch("x", choices) == folder / "late.pth"
    assert site.asked == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("torchvision://resnet5", "resnet50"),
        ("modelzoo://unknown", ""),
        ("open-mmlab://resnet51_caffe", "resnet50_caffe"),
        ("openmmlab://contrib/resnet50_g", "contrib/resnet50_gn"),
        ("mmcls://mobilenet_v3", "mobilenet_v2"),
    ],
)
def test_names_that_mmengine_does_not_know(name, near):
    bare = name.partition("://")[2]
    for load in (load_source, CheckpointLoader.load_checkpoint):
        with pytest.raises(CheckpointError, match=f"{name}: mmengine knows no model {bare!r}") as c:
            load(name)
        assert near in str(c.value) and "give the path of a weight file" in str(c.value)


def test_names_that_mmengine_knows_are_left_to_it(monkeypatch):
    asked = []
    monkeypatch.setattr(checkpoint, "load_from_http", lambda url, **_: asked.append(url) or {})
    load_source("torchvision://resnet50")
    load_source("open-mmlab://vgg16_caffe")
    load_source("open-mmlab://resnet101_caffe")  # by its older name
    found = [re.search(r"resnet50|vgg16_caffe|resnet101_caffe", url)[0] for url in asked]
    assert found == ["resnet50", "vgg16_caffe", "resnet101_caffe"]
