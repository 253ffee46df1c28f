"""A folder of results that a reader can check and repeat."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch.utils.collect_env import get_pretty_env_info

from mmplugins.engine import SettingError
from mmplugins.utils import write_whole

from .board_tables import notes_of_board, tables_of, write_board
from .plots import save_plots
from .protocol_files import as_yaml
from .runs import RUNS
from .settled import NOTED
from .text_tables import markdown_text


def check_target(folder: Path) -> None:
    """See that a folder to publish to is not there yet, or empty.

    Raises:
        SettingError: If it holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingError(
            f"--publish {folder} exists, and nothing is overwritten: give another folder"
        )


def publish(
    board: Mapping[str, Any],
    plots: Mapping[str, Figure],
    commands: Sequence[Sequence[str]],
    source: Path,
    folder: Path,
) -> Path:
    """Write table, plots, protocol, environment, commands and one JSON per run.

    ``README.md`` shows the tables and plots, ``protocol.yml`` can be given to ``--protocol``,
    ``environment.txt`` is PyTorch's own description of the machine, ``runs/`` has each result.
    No weights, no logs.

    Args:
        board: The leaderboard.
        plots: Its plots by name.
        commands: What was called, one by one.
        source: Folder of the protocol.
        folder: Where to; must not be there yet, or be empty.

    Raises:
        SettingError: As :func:`check_target`.
    """
    check_target(folder)
    write_board(board, folder)
    files = save_plots(plots, folder / "plot")
    pictures = "\n\n".join(f"![{f.stem}]({f.name})" for f in files if f.suffix == ".png")
    text = markdown_text(tables_of(board), notes_of_board(board))
    title = (board["protocol"] or {}).get("title") or "Leaderboard"
    write_whole(folder / "README.md", f"# {title}\n\n{pictures}\n\n{text}")
    write_whole(folder / "commands.txt", "".join(f"{shlex.join(c)}\n" for c in commands))
    write_whole(folder / "environment.txt", get_pretty_env_info() + "\n")
    write_whole(folder / "environment.json", json.dumps(board["trained_on"], indent=1) + "\n")
    if (source / NOTED).is_file():
        protocol = json.loads((source / NOTED).read_text(encoding="utf-8"))["protocol"]
        write_whole(folder / "protocol.yml", as_yaml(protocol))
    for path in sorted((source / RUNS).rglob("result.json")):
        name = "_".join(path.parent.relative_to(source / RUNS).parts)
        write_whole(folder / RUNS / f"{name}.json", path.read_bytes())
    return folder
