"""Names with brackets, bars and the like are printed as they are, wherever users' text is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mmplugins.backbones import PoolFormer
from mmplugins.checkpoint import load_weights
from mmplugins.checkpoint.fitting import match_model
from mmplugins.engine.hooks.results import in_markdown
from mmplugins.visualization import metrics_table, per_class_table

NAMES = ("scratch [deep]", "door[/window]", "[bold]", "a\\[b]", "[/]", ":smile:", "x|y")


def shown(table) -> str:
    text = io.StringIO()
    Console(file=text, width=160).print(table)
    return text.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_tables(name):
    said = shown(per_class_table({name: dict(AP=0.5)}, title=name))
    assert said.count(name) == 2
    assert shown(metrics_table({f"{name}_precision": 0.5}, title=name)).count(name) == 2
    assert name in shown(metrics_table({f"{name}/bbox_mAP": 0.5, "b/bbox_mAP": 0.1}))


@pytest.mark.parametrize("name", NAMES)
def test_reports(name, tmp_path):
    model = PoolFormer(dict(depths=(1,) * 4, dims=(8,) * 4))
    path = tmp_path / Path(name.replace("/", "")) / "w.pth"
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
    said = "".join(str(load_weights(model, path)).split())
    assert "".join(path.parent.name.split()) in said
    whole, _ = match_model(model, {f"{name}.weight": torch.ones(1)}, name)
    assert name in shown(whole.table())


def test_markdown_keeps_its_columns():
    rows = {name: dict(AP=0.5) for name in NAMES}
    results = dict(checkpoint="c.pth", metrics={"a|b": 0.25}, per_class=dict(bbox=rows))
    lines = [line for line in in_markdown(results).splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}
    assert "| x\\|y | 0.5 |" in lines and "| a\\|b | 0.25 |" in lines


def test_markdown_says_that_nothing_was_found():
    text = in_markdown(dict(checkpoint="c.pth", metrics={}, per_class={}))
    assert "| none: nothing was found | - |" in text
