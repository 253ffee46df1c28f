"""Where weights come from: one string for a file, an address or a published name.

=========================  =========================================================================
``path/to/file.pth``       a local file, also safetensors
``file:///path/to/it``     the same
``https://...``            an address
``metaformer://NAME``      published ImageNet weights of the families, see :mod:`.zoo`
``timm://NAME[.TAG]``      timm's weights on the Hugging Face hub; the default tag without one
=========================  =========================================================================

All of them serve wherever OpenMMLab takes a checkpoint (``init_cfg``, ``load_from``, ``--resume``,
the tools), because they are registered with mmengine's ``CheckpointLoader``; so are local files and
addresses, which are thereby read by :func:`read_checkpoint`.

A file is looked for in the folders that the environment variable ``MMPLUGINS_WEIGHTS`` names, in
torch's own cache (``$TORCH_HOME/hub/checkpoints``), in that of the Hugging Face hub, and only then
on the net, host after host. With ``HF_HUB_OFFLINE=1`` the net is left alone.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from mmplugins.backbones.key_layouts import WHOLE_MODEL
from mmplugins.backbones.timm_inspection import check_timm_name
from mmplugins.utils import did_you_mean

from .download import DownloadError, download
from .payload import find_weights
from .reading import CheckpointError, read_checkpoint
from .zoo import Source, by_last_part, find_published, from_url

FOLDERS_VARIABLE = "MMPLUGINS_WEIGHTS"
_HUB = re.compile(
    r"https://huggingface\.co/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^?#]+)"
)
_SCHEME = re.compile(r"([a-z][\w.+-]*):(\w+:)?//", re.IGNORECASE)
OURS = ("file", "http", "https", "metaformer", "timm")
"""Schemes that are read here; mmengine and its plugins have others."""

NAMED: dict[str, Callable[[], Iterable[str]]] = {
    "torchvision://": get_torchvision_models,
    "modelzoo://": get_torchvision_models,
    "open-mmlab://": lambda: {**get_external_models(), **get_deprecated_model_names()},
    "openmmlab://": lambda: {**get_external_models(), **get_deprecated_model_names()},
    "mmcls://": get_mmcls_models,
}
"""Schemes of mmengine's that look a name up, and the names they know."""


def load_source(
    source: str | Path, allow_unsafe: bool = False, map_location: Any = "cpu"
) -> dict[str, Any]:
    """Fetch a source if need be and read it.

    Args:
        source: Any form of the table above, or another scheme of mmengine's, which then loads it.
        allow_unsafe: As in :func:`read_checkpoint`. Defaults to False.
        map_location: As in :func:`read_checkpoint`. Defaults to ``'cpu'``.
    """
    name = str(source)
    if not is_resolvable(name) and _is_of_mmengine(name):
        return CheckpointLoader.load_checkpoint(name, map_location, logger="silent")
    return read_checkpoint(resolve(source), allow_unsafe, map_location)


def resolve(source: str | Path) -> Path:
    """The local file of a source, downloaded if it is not there yet.

    Args:
        source: Any form of the table above.

    Raises:
        ValueError: If a published name is unknown.
        DownloadError: If no host gave the file, or the net is off limits; the message says which
            hosts were tried and how to place the file by hand.
    """
    name = str(source)
    if not is_resolvable(name):
        remedy = (
            "it cannot be brought here as a file" if _is_of_mmengine(name) else "unknown scheme"
        )
        raise CheckpointError(
            f"{name[:200]!r}: {remedy}; expected a path, or an address that begins with "
            f"{', '.join(f'{scheme}://' for scheme in OURS)}"
        )
    found = _places(name)
    return found if isinstance(found, Path) else fetch(name, found)


def find_kept(source: str | Path) -> Path | None:
    """Where the file of a source is or should be; None if it would have to be downloaded.

    Raises:
        ValueError: If a published name is unknown.
    """
    found = _places(str(source))
    if isinstance(found, Path):
        return found
    return next((file for one in found if (file := kept_file(one)) is not None), None)


def _places(name: str) -> Path | tuple[Source, ...]:
    """The file of a local source, or the addresses of one on the net."""
    if scheme := _SCHEME.match(name):
        name = scheme[1].lower() + name[len(scheme[1]) :]
    if name.startswith("file://"):
        host, path = urlsplit(name)[1:3]
        if host not in ("", "localhost"):
            raise CheckpointError(
                f"{name} names the machine {host!r}: write file:///path/of/it.pth"
            )
        return Path(url2pathname(path))
    if name.startswith("metaformer://"):
        return find_published(name.removeprefix("metaformer://")).sources
    if name.startswith("timm://"):
        return timm_sources(name.removeprefix("timm://"))
    if name.startswith(("http://", "https://")):
        return (from_url(name),)
    return Path(name).expanduser()


def is_resolvable(source: str | Path) -> bool:
    """Whether :func:`resolve` knows the scheme of a source; a path has none."""
    scheme = _SCHEME.match(str(source))
    return scheme is None or (scheme[1].lower() in OURS and not scheme[2])


def check_name(source: str) -> None:
    """Look a published name of mmengine's up; the net is not asked.

    Args:
        source: Any; one without such a name passes.

    Raises:
        CheckpointError: If mmengine does not know the name.
    """
    scheme = next((scheme for scheme in NAMED if source.startswith(scheme)), None)
    if scheme is None:
        return
    name, known = source.removeprefix(scheme), NAMED[scheme]()
    if name not in known:
        raise CheckpointError(
            f"{source[:200]}: mmengine knows no model {name[:200]!r}: correct the name, or give "
            f"the path of a weight file.{did_you_mean(name, known)}"
        )


def _is_of_mmengine(name: str) -> bool:
    """Whether mmengine, or a plugin of it, has a loader for a scheme that is not ours."""
    return any(prefix and re.match(prefix, name) for prefix in CheckpointLoader._schemes)


def timm_sources(name: str) -> tuple[Source, ...]:
    """Addresses of timm's pretrained weights.

    Args:
        name: A timm model, with or without a tag: ``'caformer_s18.sail_in22k'``.

    Raises:
        ValueError: If timm has no such model or tag, or no weights for it.
    """
    import timm

    check_timm_name(name)
    if not timm.list_pretrained(name.partition(".")[0]):
        raise ValueError(f"timm {timm.__version__} has no weights for {name!r}")
    config = timm.get_pretrained_cfg(name)
    sources = []
    if config.hf_hub_id:
        full = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
        repo = config.hf_hub_id.rstrip("/")
        repo = f"{repo}/{full}" if "/" not in repo else repo
        files = [config.hf_hub_filename] if config.hf_hub_filename else []
        for file in files or ("model.safetensors", "pytorch_model.bin"):
            kept = f"timm_{full}{Path(file).suffix}"
            sources.append(Source(f"https://huggingface.co/{repo}/resolve/main/{file}", kept))
    if config.url:
        sources.append(by_last_part(config.url))
    return tuple(sources)


def fetch(name: str, sources: Sequence[Source]) -> Path:
    """The file of the first source that is kept somewhere, or else that can be downloaded.

    Args:
        name: What the user asked for, for messages.
        sources: Addresses of equal worth, tried in order.

    Raises:
        DownloadError: If none can be had.
    """
    for source in sources:
        found = kept_file(source)
        if found is not None:
            return found
    if is_offline():
        tried = ["the net was not asked, because HF_HUB_OFFLINE is set"]
    else:
        tried = []
        for source in sources:
            try:
                return download(_address(source), cache_folder() / source.file, source.sha256)
            except CheckpointError as error:
                tried.append(f"{urlsplit(source.url).hostname}: {error}")
    raise DownloadError(
        f"{name} could not be had:\n  " + "\n  ".join(tried) + "\n"
        "To place it by hand, bring one of these files\n  "
        + "\n  ".join(f"{s.url}  as  {s.file}" for s in sources)
        + f"\nto {cache_folder()}, or to a folder of your own that {FOLDERS_VARIABLE} names."
    )


def kept_file(source: Source) -> Path | None:
    """Where a file is already: offline folders, torch's cache, the hub's cache; or None."""
    for folder in [*offline_folders(), cache_folder()]:
        if (folder / source.file).is_file():
            return folder / source.file
    hub = _HUB.match(source.url)
    if hub:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(hub["repo"], hub["file"], revision=hub["revision"])
        if isinstance(found, str):
            return Path(found)
    return None


def cache_folder() -> Path:
    """Where downloads go: the folder of torch's and mmengine's own."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def offline_folders() -> list[Path]:
    """Folders with files placed by hand, from ``MMPLUGINS_WEIGHTS`` (separated as in PATH)."""
    value = os.environ.get(FOLDERS_VARIABLE, "")
    return [Path(folder).expanduser() for folder in value.split(os.pathsep) if folder]


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the net."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _address(source: Source) -> str:
    """The address, on the mirror that ``HF_ENDPOINT`` names if it is on the hub."""
    if not _HUB.match(source.url):
        return source.url
    from huggingface_hub import constants

    return constants.ENDPOINT + source.url.removeprefix("https://huggingface.co")


# mmengine has loaders for all but timm. Ours also read safetensors, continue downloads, and explain
# what failed.
@CheckpointLoader.register_scheme(prefixes=("timm://", "http://", "https://", ""), force=True)
def load_from_anywhere(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader of mmengine's for timm's weights, addresses and local files."""
    return load_source(filename, map_location=map_location)


@CheckpointLoader.register_scheme(prefixes="metaformer://")
def load_from_metaformer(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Loader of mmengine's for published names.

    The weights come below ``backbone.``, where a detector or segmentor has its backbone, so that
    ``load_from`` finds them too; a bare backbone of the suite takes that name off.
    """
    weights = find_weights(load_source(filename, map_location=map_location), filename)
    tensors = weights.below(WHOLE_MODEL) or weights.tensors
    return dict(state_dict={WHOLE_MODEL + key: value for key, value in tensors.items()})


def _checked(load: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """mmengine's loader, with a CheckpointError in place of its KeyError for an unknown name."""

    @functools.wraps(load)
    def checked(filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        check_name(filename)
        return load(filename, *args, **kwargs)

    return checked


for _scheme in NAMED:
    CheckpointLoader.register_scheme(_scheme, _checked(CheckpointLoader._schemes[_scheme]), True)
