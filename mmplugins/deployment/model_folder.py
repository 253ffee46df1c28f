"""A trained model as a folder that others can load: weights, config, classes, and a card.

::

    model.safetensors     the weights
    config.py             the config as text, read as data
    model.json            task, classes, colours, preprocessing, versions
    README.md             the model card, written from the run

Loading reads tensors and data. It runs nothing, and refuses folders with pickles in them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from mmplugins.checkpoint import CheckpointError, read_checkpoint, save_weights
from mmplugins.checkpoint.config_text import config_from_text, innermost
from mmplugins.checkpoint.reading import sniff
from mmplugins.utils import few, write_whole

WEIGHTS, CONFIG, ABOUT, CARD = "model.safetensors", "config.py", "model.json", "README.md"

PICKLES = (".pth", ".pt", ".bin", ".pkl", ".pickle", ".ckpt", ".tar")
"""Suffixes of files that may be pickles, which are programs."""

_PRIVATE = ("work_dir", "load_from", "resume", "launcher", "env_cfg")
"""Entries of a config that say where it was trained, not what."""


def write_folder(
    folder: str | os.PathLike,
    model: nn.Module,
    cfg: Config,
    description: Mapping[str, Any],
    card: str,
    overwrite: bool = False,
) -> Path:
    """Write a model folder.

    Args:
        folder: Where to; made if it is not there.
        model: In trained or deployed form.
        cfg: Its config.
        description: Of :func:`.describe`.
        card: Text of the model card, of :func:`model_card`.
        overwrite: Whether a model in the folder may be replaced.

    Returns:
        The folder.

    Raises:
        FileExistsError: If there is one and ``overwrite`` is False.
        WriteError: If it cannot be written.
    """
    folder = Path(folder)
    there = [name for name in (WEIGHTS, CONFIG, ABOUT, CARD) if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"{folder} holds {few(there)} already: another --out, or --overwrite")
    public = Config({k: v for k, v in cfg.to_dict().items() if k not in _PRIVATE})
    about = {k: v for k, v in description.items() if k != "config"}
    save_weights(model.state_dict(), folder / WEIGHTS, overwrite=overwrite)
    write_whole(folder / CONFIG, public.pretty_text)
    write_whole(folder / ABOUT, json.dumps(about, indent=2) + "\n")
    write_whole(folder / CARD, card)
    return folder


def read_folder(folder: str | os.PathLike, trust: bool = False) -> tuple[dict[str, Any], Config]:
    """Read a model folder.

    Args:
        folder: Of :func:`write_folder`.
        trust: Run the config instead of reading it as data.

    Returns:
        A checkpoint's content (``state_dict`` and ``meta``), and the config.

    Raises:
        CheckpointError: If something is missing, is a pickle, or is no plain data.
    """
    folder = Path(folder)
    missing = [name for name in (WEIGHTS, CONFIG, ABOUT) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is no model folder, it lacks {', '.join(missing)}: expected one of "
            "tools/package_model.py"
        )
    pickles = [file.name for file in folder.iterdir() if file.suffix in PICKLES]
    if pickles:
        raise CheckpointError(
            f"{folder} holds {few(pickles)}, which may be pickles, and pickles are programs: a "
            f"model folder has its weights in {WEIGHTS}; remove them"
        )
    if sniff(folder / WEIGHTS) != "safetensors":
        raise CheckpointError(f"{folder / WEIGHTS} is no safetensors file: not opened")
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        classes, palette = about["classes"], about["palette"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / ABOUT} cannot be used, {type(error).__name__}: {error}"
        ) from error
    source = os.fspath(folder / CONFIG)
    text = (folder / CONFIG).read_text(encoding="utf-8")
    cfg = Config.fromfile(source) if trust else config_from_text(text, source)
    meta = dict(dataset_meta=dict(classes=classes, palette=palette))
    return dict(state_dict=read_checkpoint(folder / WEIGHTS), meta=meta), cfg


def model_card(
    name: str, cfg: Config, description: Mapping[str, Any], results: Mapping[str, float]
) -> str:
    """The text of a model card, from the config and what the run left behind.

    Args:
        name: Of the model.
        cfg: Its config.
        description: Of :func:`.describe`.
        results: Metrics by name; empty if it was not tested.
    """
    dataset = innermost((cfg.get("train_dataloader") or {}).get("dataset")) or {}
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    loop = cfg.get("train_cfg") or {}
    batch = (cfg.get("train_dataloader") or {}).get("batch_size", "not known")
    backbone = cfg.model.get("backbone") or {}
    start = (backbone.get("init_cfg") or {}).get("checkpoint")
    length = loop.get("max_epochs") and f"{loop['max_epochs']} epochs"
    length = length or (loop.get("max_iters") and f"{loop['max_iters']} iterations") or "not known"
    rows = {
        "task": description["task"],
        "model": cfg.model.get("type"),
        "backbone": " ".join(
            str(backbone.get(k)) for k in ("type", "arch", "model_name") if k in backbone
        ),
        "classes": few(list(description["classes"]), 20) or "not known by name",
        "data": f"{dataset.get('type', 'not known')} {dataset.get('ann_file', '')}".strip(),
        "schedule": f"{length}, batches of {batch}",
        "optimiser": f"{optimizer.get('type', 'not known')}, learning rate {optimizer.get('lr')}",
        "started from": start or "random weights",
        "normalisation": f"mean {_short(description['mean'])}, std {_short(description['std'])}",
        "versions": ", ".join(f"{k} {v}" for k, v in description["versions"].items()),
    }
    measured = "\n".join(f"| {key} | {value:.4g} |" for key, value in results.items())
    licence = (
        f"The licence of the weights it started from ({start}) applies to these as well: see where "
        "they were published."
        if start
        else "It was trained from random weights; its owner decides on the licence."
    )
    table = "\n".join(f"| {key} | {str(value).replace('|', '/')} |" for key, value in rows.items())
    return (
        f"---\nlibrary_name: mmplugins\npipeline_tag: {_TAGS[description['task']]}\n---\n\n"
        f"# {name}\n\n| | |\n| --- | --- |\n{table}\n\n## Results\n\n"
        + (f"| metric | value |\n| --- | --- |\n{measured}\n" if measured else "Not tested.\n")
        + f"\n## Licence\n\n{licence}\n\n## Use\n\n```python\nimport mmplugins\n\n"
        'model = mmplugins.load_model("this folder")\nmmplugins.predict(model, "pictures/")\n```\n'
    )


_TAGS = {"detection": "object-detection", "segmentation": "image-segmentation"}


def push(folder: str | os.PathLike, repo: str, private: bool = True) -> str:
    """Put a model folder on the Hugging Face hub, with the token that is logged in there.

    Args:
        folder: Of :func:`write_folder`; looked through as for loading.
        repo: ``'owner/name'``; made if it is not there.
        private: Whether a new one is private. Defaults to True.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: If it is no model folder.
        OSError: If the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    read_folder(folder)
    hub = HfApi()
    hub.create_repo(repo, private=private, exist_ok=True)
    done = hub.upload_folder(
        repo_id=repo,
        folder_path=os.fspath(folder),
        allow_patterns=[WEIGHTS, CONFIG, ABOUT, CARD],
        commit_message="Model folder of mmplugins",
    )
    return str(done)


def _short(values: list[float] | None) -> str:
    return ", ".join(f"{value:.6g}" for value in values) if values else "none"
