"""Checkpoints with parts swapped, cut and retyped: resumed, or refused in one sentence."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer
from random_training import Killed
from toy_training import toy

from mmplugins.checkpoint import CheckpointError, read_checkpoint
from mmplugins.checkpoint.training_schema import check_training
from mmplugins.engine import DivergedError, train

KINDS: list[Any] = [
    -5, "54", None, 1.5, float("nan"), float("inf"), True, [], {}, (), b"x", 10**30, "x" * 100_000,
    [[1]], {"a": 1}, torch.ones(2), torch.ones(3, 3), torch.tensor(float("nan")),
    torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.bool), HistoryBuffer([1], [1]),
    torch.ones(2, device="meta"), torch.ones(2).to(torch.float8_e4m3fn), {1: 2}, ["a"],
]  # fmt: skip


def places(content: Any, way: tuple = ()) -> list[tuple]:
    """Ways to every entry of nested dicts and lists."""
    if isinstance(content, dict):
        items = list(content.items())
    elif isinstance(content, list):
        items = list(enumerate(content))
    else:
        return []
    return [w for key, value in items for w in [(*way, key), *places(value, (*way, key))]]


def spoil(content: dict, draw: random.Random) -> str:
    """Change one or two entries; returns what was done."""
    done = []
    for _ in range(draw.choice([1, 1, 2])):
        ways = places(content)
        depth = draw.randint(1, max(map(len, ways)))  # as often near the top as at the leaves
        way = draw.choice([w for w in ways if len(w) <= depth and len(w) >= depth - 1])
        other = draw.choice(ways)
        holder = content
        for step in way[:-1]:
            holder = holder[step]
        how = draw.choice(["retype", "cut", "swap", "rename", "shape", "bytes"])
        value = holder[way[-1]]
        if how == "cut":
            del holder[way[-1]]
        elif how == "swap":
            given = content
            for step in other:
                given = given[step]
            holder[way[-1]] = copy.deepcopy(given)
        elif how == "rename" and isinstance(holder, dict):
            holder[draw.choice(["", "x", 7, "step", "get"])] = holder.pop(way[-1])
        elif how == "shape" and isinstance(value, torch.Tensor):
            holder[way[-1]] = draw.choice([value[None][:0], value.flatten()[:3], value[None]])
        else:
            holder[way[-1]] = copy.deepcopy(draw.choice(KINDS))
        done.append(f"{how} {way} {other if how == 'swap' else ''}")
    return "; ".join(done)[:300]


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    cfg = toy(tmp_path_factory.mktemp("fuzz") / "work")
    cfg.custom_hooks = [dict(type="EMAHook"), dict(type="KillHook", after=10)]
    torch.set_num_threads(1)
    with pytest.raises(Killed):
        train(cfg)
    return Path(cfg.work_dir) / "iter_9.pth"


def resumed(real: Path, tmp_path: Path, seed: int) -> str:
    """Resume from a spoilt copy; returns the refusal, or nothing if it went on."""
    content = read_checkpoint(real)
    what = spoil(content, random.Random(seed))
    path = tmp_path / f"{seed}.pth"
    torch.save(content, path)
    cfg = toy(tmp_path / f"work{seed}", resume=True, load_from=str(path))
    cfg.custom_hooks = [dict(type="EMAHook")]
    try:
        train(cfg)
    except (CheckpointError, DivergedError) as error:
        assert len(str(error)) < 5000, (seed, what)
        return str(error)
    except Exception as error:
        raise AssertionError(f"seed {seed}, {what}: {type(error).__name__}: {error}") from error
    return ""


def check(real: Path, tmp_path: Path, seeds: range) -> None:
    answers = [resumed(real, tmp_path, seed) for seed in seeds]
    assert 0 < sum(map(bool, answers)) < len(answers)


def test_a_few(real, tmp_path):
    check(real, tmp_path, range(25))


@pytest.mark.parametrize(
    ("seed", "said"),
    [
        (30, "state_dict lacks backbone.1.num_batches_tracked, which ema_state_dict has"),
        (275, "amsgrad="),
        (404, "classes in its meta"),
    ],
)
def test_the_part_is_named(real, tmp_path, seed, said):
    assert said in resumed(real, tmp_path, seed)


@pytest.mark.parametrize("betas", [(-1.0, 0.9), (0.9, 5.0), [float("nan"), 0.9]])
def test_betas_out_of_range(real, betas):
    content = read_checkpoint(real)
    content["optimizer"]["param_groups"][0]["betas"] = betas
    with pytest.raises(CheckpointError, match="numbers from 0 to below 1 for betas"):
        check_training(content, real)


@pytest.mark.slow
def test_many(real, tmp_path):
    check(real, tmp_path, range(25, 425))
