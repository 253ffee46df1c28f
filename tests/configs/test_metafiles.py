"""Metafiles list what there is, and what they say is true."""

from __future__ import annotations

import pytest
import yaml
from config_tree import CONFIGS, LEAVES, ROOT, entries, outline, read, tool

MISPRINTS = {"poolformer/semantic-fpn_poolformer-s24_40k_ade20k.py"}
"""The paper prints 23.2 M for what its released config makes 25.1 M."""

TRAINED_ON = {"data/coco/": "COCO", "data/ade/ADEChallengeData2016": "ADE20K"}
RECOUNTED = (
    "poolformer/retinanet_poolformer-s12_fpn_1x_coco.py",
    "poolformer/mask-rcnn_poolformer-s12_fpn_1x_coco.py",
    "poolformer/semantic-fpn_poolformer-s12_40k_ade20k.py",
    "caformer/upernet_caformer-s18_160k_ade20k.py",
    "convnext/cascade-mask-rcnn_convnext-tiny_fpn_ms-crop-3x_coco.py",
)


def test_every_leaf_is_listed_once():
    listed = [m["Config"] for metafile in tool.metafiles() for m in tool.read_models(metafile)]
    assert sorted(listed) == sorted(f"configs/{name}" for name in LEAVES)


def test_index_lists_every_metafile():
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
    assert index == [path.relative_to(ROOT).as_posix() for path in tool.metafiles()]


@pytest.mark.parametrize("name", LEAVES)
def test_entry(name):
    entry, cfg = entries()[name], read(name)
    data = entry["Metadata"]
    assert entry["Name"] == (CONFIGS / name).stem
    epochs, steps = cfg.train_cfg.get("max_epochs"), cfg.train_cfg.get("max_iters")
    assert (data.get("Epochs"), data.get("Iterations")) == (epochs, steps)
    tasks = [result["Task"] for result in entry.get("Results", [])]
    if cfg.default_scope == "mmseg":
        assert tasks in ([], ["Semantic Segmentation"])
    elif "roi_head" in cfg.model:
        assert tasks in ([], ["Object Detection", "Instance Segmentation"])
    else:
        assert tasks in ([], ["Object Detection"])
    for result in entry.get("Results", []):
        assert result["Dataset"] == TRAINED_ON[cfg.data_root]


@pytest.mark.parametrize("metafile", tool.metafiles(), ids=lambda path: path.parent.name)
def test_metafile(metafile):
    text = yaml.safe_load(metafile.read_text())
    (collection,) = text["Collections"]
    assert {model["In Collection"] for model in text["Models"]} == {collection["Name"]}
    assert collection["Paper"]["URL"].startswith("https://arxiv.org/abs/")
    roots = {read(m["Config"].removeprefix("configs/")).data_root for m in text["Models"]}
    trained = {TRAINED_ON[root] for root in roots - {"data/shapes/"}}
    assert trained == set(collection["Metadata"]["Training Data"])


@pytest.mark.parametrize("metafile", tool.metafiles(), ids=lambda path: path.parent.name)
def test_readme_has_the_table_of_its_metafile(metafile):
    readme = metafile.with_name("README.md").read_text()
    assert tool.table(metafile) in readme, "run tools/config_tables.py"
    assert yaml.safe_load(metafile.read_text())["Collections"][0]["Paper"]["URL"] in readme


@pytest.mark.parametrize("name", LEAVES)
def test_counts_agree_with_the_printed_ones(name):
    """To the last printed digit for parameters, and to 0.5 % for MACs, whose counters differ."""
    data = entries()[name]["Metadata"]
    printed = data.get("Printed", {})
    if "Parameters (M)" in printed and name not in MISPRINTS:
        counted = data["Parameters"]
        if name.startswith("resnet/"):  # these tables leave frozen parameters out
            counted = sum(p.numel() for p in outline(name).parameters() if p.requires_grad)
        # Some tables rounded twice: 15.446 M to 15.45, and that to 15.5.
        millions = round(counted / 1e6, 2)
        digit = 1 if isinstance(printed["Parameters (M)"], int) else 0.1
        assert abs(millions - printed["Parameters (M)"]) <= digit / 2 + 1e-9
    if "MACs (G)" in printed:
        assert data["MACs (G)"] == pytest.approx(printed["MACs (G)"], rel=5e-3)


def test_the_misprint_is_one():
    (name,) = MISPRINTS
    data = entries()[name]["Metadata"]
    assert data["Printed"]["Parameters (M)"] == 23.2 and data["Parameters"] == 25_143_638


@pytest.mark.parametrize("name", RECOUNTED)
def test_counts_are_those_of_the_tool(name):
    data = entries()[name]["Metadata"]
    assert tool.count(entries()[name]) == (data["Parameters"], data["MACs (G)"])


def test_tool_writes_counts_to_their_own_entry(tmp_path, monkeypatch):
    entry = "  - Config: configs/{}\n    Metadata:\n      Parameters: 1\n      MACs (G): 2.5\n"
    metafile = tmp_path / "metafile.yml"
    metafile.write_text("Models:\n" + entry.format("a.py") + entry.format("aa.py"))
    counted = {"configs/a.py": (10, 1.0), "configs/aa.py": (20, 3.25)}
    monkeypatch.setattr(tool, "count", lambda model: counted[model["Config"]])
    models = yaml.safe_load(tool.with_counts(metafile))["Models"]
    assert {m["Config"]: tuple(m["Metadata"].values()) for m in models} == counted
