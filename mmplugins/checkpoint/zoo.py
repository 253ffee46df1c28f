"""The published ImageNet weights of the families, as data: names, addresses, what is known of them.

Names are those of ``list_backbones()``, followed by the authors' suffix where there is more than
one file: ``caformer_s18``, ``caformer_s18_384``, ``caformer_s18_384_in21ft1k``.

Hash and size stand here only where they were published: the names of OpenMMLab's files end in the
first eight digits of their SHA-256. The other hosts publish none, so those files are checked for
being whole and being weights, and no further. Files of one name hold the same weights in the
layouts of different code bases, which are told apart when they are read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from mmplugins.backbones.key_layouts import DINOV3_LICENSE, KeyLayout
from mmplugins.utils import did_you_mean


@dataclass(frozen=True)
class Source:
    """One address of a file.

    Attributes:
        url: Where it is.
        file: Name under which it is kept.
        sha256: First digits of its SHA-256, or ``''`` if none were published.
    """

    url: str
    file: str
    sha256: str = ""


@dataclass(frozen=True)
class PublishedWeights:
    """Weights by name, and where to get them, the authors' own host first.

    Attributes:
        name: For ``metaformer://NAME``.
        backbone: Name of the backbone, as in ``list_backbones()``.
        data: What they were trained on, and at which size.
        sources: Addresses, tried in this order.
        license: Under which the authors gave them out.
    """

    name: str
    backbone: str
    data: str
    sources: tuple[Source, ...]
    license: str = "Apache-2.0"


SAIL_GITHUB = "https://github.com/sail-sg/poolformer/releases/download/v1.0/"
SAIL_HUB = "https://huggingface.co/sail/dl/resolve/main/"
TIMM_HUB = "https://huggingface.co/timm/"
OPENMMLAB = "https://download.openmmlab.com/mmclassification/"
ONEDL = "https://mmassets.onedl.ai/mmclassification/"
SPACH_GITHUB = "https://github.com/microsoft/SPACH/releases/download/v1.0/"
META = "https://dl.fbaipublicfiles.com/convnext/"
META_DINOV3 = "https://dl.fbaipublicfiles.com/dinov3/"

HASH_IN_NAME = ("download.openmmlab.com", "mmassets.onedl.ai", "download.pytorch.org")
"""Hosts whose file names end in a dash and the first digits of the file's SHA-256."""

IN1K, IN21K, IN21FT1K = "ImageNet-1K", "ImageNet-21K", "ImageNet-21K, then 1K"

POOLFORMER_HASHES = {
    "s12": "f8d83051",
    "s24": "d7055904",
    "s36": "d78ff3e8",
    "m36": "c55e0949",
    "m48": "9378f3eb",
}
RIFORMER_HASHES = {  # at 224 and 384 pixels
    "s12": ("6741ce71", "145eda4c"),
    "s24": ("fdab072a", "bafae7ab"),
    "s36": ("fdfcd3b0", "017ed3c4"),
    "m36": ("2fcb9d9b", "66a6f764"),
    "m48": ("2b9d1abf", "2e874826"),
}
HYBRID_FILES = {
    "s12_identity": "metaformer_id_s12",
    "s12_pppa": "metaformer_pppa_s12_224",
    "s12_ppaa": "metaformer_ppaa_s12_224",
    "s12_pppf": "metaformer_pppf_s12_224",
    "s12_ppff": "metaformer_ppff_s12_224",
}
DINOV3_HASHES = {
    "tiny": "21b726bb",
    "small": "296db49d",
    "base": "801f2ba9",
    "large": "61fa432d",
}
BASELINE_SUFFIXES = {  # the authors' suffix: training data, pixels, timm's tag
    "": (IN1K, 224, "sail_in1k"),
    "_384": (IN1K, 384, "sail_in1k_384"),
    "_in21ft1k": (IN21FT1K, 224, "sail_in22k_ft_in1k"),
    "_384_in21ft1k": (IN21FT1K, 384, "sail_in22k_ft_in1k_384"),
    "_in21k": (IN21K, 224, "sail_in22k"),
}
NOT_PUBLISHED = {
    "smlpnet_t": "the authors released no weights of sMLPNet-T, only of S and B",
}


@cache
def published() -> dict[str, PublishedWeights]:
    """All published weights by name."""
    rows = [*_poolformer(), *_baselines(), *_riformer(), *_smlpnet(), *_convnext(), *_dinov3()]
    return {row.name: row for row in rows}


def find_published(name: str) -> PublishedWeights:
    """Look a name up.

    Raises:
        ValueError: If there are no such weights; the message says why or offers the nearest names.
    """
    if name in published():
        return published()[name]
    if name in NOT_PUBLISHED:
        raise ValueError(f"No weights {name!r}: {NOT_PUBLISHED[name]}")
    raise ValueError(
        f"No weights {name!r}: expected a name that `python tools/weights.py list` shows."
        f"{did_you_mean(name, published(), count=3)}"
    )


def licence_of(source: str, layout: KeyLayout | None) -> str:
    """Licence of weights, as far as their name or layout tells it, else ``''``.

    Args:
        source: As in :mod:`.sources`.
        layout: Layout of the file.
    """
    if source.startswith("metaformer://"):
        return find_published(source.removeprefix("metaformer://")).license
    if source.startswith("timm://"):
        import timm

        name = source.removeprefix("timm://")
        licence = timm.get_pretrained_cfg(name).license or ""
        return DINOV3_LICENSE if licence.startswith("dinov3") else licence
    return layout.license if layout else ""


def from_url(url: str) -> Source:
    """The source of any address, kept under a name that no other address has.

    That is the last part of the address if it ends in the file's hash, or if the address is a
    published one; else with digits of the address before it.
    """
    plain = by_last_part(url)
    known = {source.url for row in published().values() for source in row.sources}
    if plain.sha256 or url in known:
        return plain
    digits = hashlib.sha256(url.encode()).hexdigest()[:12]
    return Source(url, f"{digits}_{plain.file[-100:]}")


def by_last_part(url: str) -> Source:
    """A source with the file name of an address, and its hash if the host's file names tell it."""
    file = re.sub(r"[?#].*", "", url).rstrip("/").rpartition("/")[2]
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", file)
    told = urlsplit(url).hostname in HASH_IN_NAME
    return Source(url, file, digits[1] if digits and told else "")


def _timm(model: str, tag: str) -> Source:
    """A file of timm's on the Hugging Face hub, where all files have one name."""
    return Source(
        f"{TIMM_HUB}{model}.{tag}/resolve/main/model.safetensors", f"timm_{model}.{tag}.safetensors"
    )


def _openmmlab(path: str) -> tuple[Source, Source]:
    """A file on OpenMMLab's host and on that of the maintained fork."""
    return by_last_part(OPENMMLAB + path), by_last_part(ONEDL + path)


def _poolformer() -> Iterator[PublishedWeights]:
    for arch, digits in POOLFORMER_HASHES.items():
        name = f"poolformer_{arch}"
        path = f"v0/poolformer/poolformer-{arch}_3rdparty_32xb128_in1k_20220414-{digits}.pth"
        sources = (by_last_part(f"{SAIL_GITHUB}{name}.pth.tar"), _timm(name, "sail_in1k"))
        yield PublishedWeights(name, name, f"{IN1K}, 224", (*sources, *_openmmlab(path)))
    for arch, file in HYBRID_FILES.items():
        name = f"poolformer_{arch}"
        source = by_last_part(f"{SAIL_GITHUB}{file}.pth.tar")
        yield PublishedWeights(name, name, f"{IN1K}, 224", (source,))


def _baselines() -> Iterator[PublishedWeights]:
    for family in ("identityformer", "randformer", "poolformerv2", "convformer", "caformer"):
        basic = family not in ("convformer", "caformer")
        for arch in ("s12", "s24", "s36", "m36", "m48") if basic else ("s18", "s36", "m36", "b36"):
            backbone = f"{family}_{arch}"
            for suffix, (data, pixels, tag) in BASELINE_SUFFIXES.items():
                if basic and suffix:
                    continue
                sources = [by_last_part(f"{SAIL_HUB}{family}/{backbone}{suffix}.pth")]
                if family not in ("identityformer", "randformer"):
                    sources.append(_timm(backbone, tag))
                yield PublishedWeights(
                    backbone + suffix, backbone, f"{data}, {pixels}", tuple(sources)
                )


def _riformer() -> Iterator[PublishedWeights]:
    for arch, digits in RIFORMER_HASHES.items():
        backbone = f"riformer_{arch}"
        for suffix, size, pixels, sha in zip(
            ("", "_384"), ("", "-384px"), (224, 384), digits, strict=True
        ):
            path = f"v1/riformer/riformer-{arch}_32xb128_in1k{size}_20230406-{sha}.pth"
            yield PublishedWeights(
                backbone + suffix, backbone, f"{IN1K}, {pixels}", _openmmlab(path)
            )


def _smlpnet() -> Iterator[PublishedWeights]:
    for arch in ("s", "b"):
        name = f"smlpnet_{arch}"
        source = by_last_part(f"{SPACH_GITHUB}smlp_{arch}.pth")
        yield PublishedWeights(name, name, f"{IN1K}, 224", (source,), "MIT")


def _convnext() -> Iterator[PublishedWeights]:
    sizes = ("tiny", "small", "base", "large", "xlarge")
    for size in sizes:
        backbone = f"convnext_{size}"
        ema = "_ema" if size == "xlarge" else ""
        rows: list[tuple[str, str, int, str, str | None]] = [
            ("_in21k", IN21K, 224, "22k_224", "fb_in22k"),
            ("_in21ft1k", IN21FT1K, 224, f"22k_1k_224{ema}", "fb_in22k_ft_in1k"),
            ("_384_in21ft1k", IN21FT1K, 384, f"22k_1k_384{ema}", "fb_in22k_ft_in1k_384"),
        ]
        if size != "xlarge":
            # The raw weights start the authors' dense models; the averaged ones are timm's.
            rows.insert(0, ("", IN1K, 224, "1k_224", None))
            rows.insert(1, ("_ema", f"{IN1K}, averaged", 224, "1k_224_ema", "fb_in1k"))
        for suffix, data, pixels, file, tag in rows:
            sources = [by_last_part(f"{META}{backbone}_{file}.pth")]
            if tag:
                sources.append(_timm(backbone, tag))
            trained = f"{data}, {pixels}"
            yield PublishedWeights(backbone + suffix, backbone, trained, tuple(sources), "MIT")


def _dinov3() -> Iterator[PublishedWeights]:
    """DINOv3's ConvNeXts. Meta's host and Hugging Face give them to who has signed the licence."""
    for size, digits in DINOV3_HASHES.items():
        name, kept = f"convnext_{size}", f"dinov3_convnext_{size}"
        file = f"{kept}_pretrain_lvd1689m-{digits}.pth"
        hub = f"facebook/dinov3-convnext-{size}-pretrain-lvd1689m"
        sources = (
            Source(f"{META_DINOV3}{kept}/{file}", file, digits),
            Source(
                f"https://huggingface.co/{hub}/resolve/main/model.safetensors",
                f"{kept}.safetensors",
            ),
            _timm(name, "dinov3_lvd1689m"),
        )
        yield PublishedWeights(
            f"{name}_dinov3", name, "LVD-1689M without labels, distilled", sources, DINOV3_LICENSE
        )
