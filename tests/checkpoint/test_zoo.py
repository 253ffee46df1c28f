import re

import pytest

from mmplugins.backbones import list_backbones
from mmplugins.checkpoint.zoo import NOT_PUBLISHED, from_url, published


def test_every_file_belongs_to_a_backbone_of_the_suite():
    assert published()
    for name, row in published().items():
        assert row.name == name
        assert row.backbone in list_backbones()
        assert name.startswith(row.backbone)
        assert row.sources


def test_every_published_backbone_is_there():
    without = set(list_backbones()) - {row.backbone for row in published().values()}
    assert without == set(NOT_PUBLISHED)


def test_files_kept_under_one_name_are_one_file():
    kept = {}
    for row in published().values():
        for source in row.sources:
            assert re.fullmatch(r"[\w.+-]+", source.file)
            assert kept.setdefault(source.file, row.name) == row.name


def test_known_addresses():
    rows = published()
    assert rows["poolformer_s12"].sources[0].url == (
        "https://github.com/sail-sg/poolformer/releases/download/v1.0/poolformer_s12.pth.tar"
    )
    assert rows["caformer_b36_384_in21ft1k"].sources[0].url == (
        "https://huggingface.co/sail/dl/resolve/main/caformer/caformer_b36_384_in21ft1k.pth"
    )
    assert rows["convnext_xlarge_384_in21ft1k"].sources[0].url == (
        "https://dl.fbaipublicfiles.com/convnext/convnext_xlarge_22k_1k_384_ema.pth"
    )
    first, mirror = rows["riformer_m48_384"].sources
    assert first.url.endswith("/riformer-m48_32xb128_in1k-384px_20230406-2e874826.pth")
    assert first.sha256 == mirror.sha256 == "2e874826"
    assert (
        first.url.partition("/mmclassification/")[2]
        == (mirror.url.partition("/mmclassification/")[2])
    )


def test_timm_addresses_exist_in_timm():
    timm = pytest.importorskip("timm")
    tagged = set(timm.list_pretrained())
    found = 0
    for row in published().values():
        for source in row.sources:
            match = re.match(r"https://huggingface.co/timm/([^/]+)/", source.url)
            if match:
                found += 1
                assert match[1] in tagged
    assert found > 50


def test_only_hosts_that_say_so_have_hashes_in_file_names():
    url = "https://download.openmmlab.com/a/r50_20200130-047c8118.pth?download=1"
    assert from_url(url).sha256 == "047c8118"
    assert from_url(url).file == "r50_20200130-047c8118.pth"
    assert from_url("https://example.org/mine-20240101.pth").sha256 == ""
