"""What is known of the data of a protocol before anything is trained or written."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import cv2
import pytest
import yaml
from leaderboard_commands import BACKBONES
from programs import load

from mmplugins.benchmark.protocol_files import load_protocol
from mmplugins.benchmark.runs import plan, run_config
from mmplugins.benchmark.set_checks import check_sets
from mmplugins.datasets import make_shapes
from mmplugins.datasets.shapes import METAINFO

SPLITS = dict(train="training", test="validation")
BOXES = dict(
    recipe="retinanet/retinanet_1x_coco.py", format="coco", offered_at="https://example.org/data",
    **{name: dict(images=f"images/{part}", annotations=f"annotations/instances_{short}.json")
       for (name, part), short in zip(SPLITS.items(), ("train", "val"), strict=True)},
)  # fmt: skip
MAPS = dict(
    recipe="linear/linear_40k_ade20k.py", format="ade20k", classes=list(METAINFO["classes"]),
    val=dict(holdout=6),
    **{name: dict(images=f"images/{part}", labels=f"annotations/{part}")
       for name, part in SPLITS.items()},
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "shapes"
    return Path(make_shapes(folder, image_size=64, num_train=12, num_val=6, seed=0))


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, "data")
    return tmp_path / "data"


def written(boxes=(), maps=(), **changes):
    sets = dict(boxes=BOXES | dict(boxes), maps=MAPS | dict(maps))
    content = dict(sets=sets, budget=dict(steps=2, batch=2)) | changes
    for one in content["sets"].values():
        one["root"] = "data"
    Path("own.yml").write_text(yaml.safe_dump(content))
    return "own.yml"


def annotations(change):
    path = Path("data/annotations/instances_val.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def smaller_maps():
    for path in Path("data/annotations/validation").glob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::2, ::2])


def test_sound_data(root):
    runs = plan(load_protocol(written()), {"pool": BACKBONES[0].partition("=")[2]}, "out")
    assert check_sets(runs) == [] and not Path("out").exists()
    # Shapes stand in for a set of one's own in recipes that draw them, too.
    recipes = dict(
        boxes="retinanet/retinanet_shapes.py", maps="semantic_fpn/semantic-fpn_shapes.py"
    )
    path = written(**{name: dict(recipe=recipe) for name, recipe in recipes.items()})
    runs = plan(load_protocol(path), {"pool": BACKBONES[0].partition("=")[2]}, "out")
    assert check_sets(runs) == []
    types = [run_config(run).train_dataloader.dataset.type for run in runs[:2]]
    assert types == ["CocoDataset", "BaseSegDataset"]


WRONG = {
    "holdout": (dict(maps=dict(val=dict(holdout=12))), None, "maps: holdout: 12 of 12 train"),
    "picture suffix": (
        dict(maps=dict(suffixes=[".png", ".png"])), None, "maps: .*6 of 6 pictures do not exist",
    ),
    "map suffix": (
        dict(maps=dict(suffixes=[".jpg", ".tif"])), None, "no label map below .* ends in '.tif'",
    ),
    "fewer classes": (dict(maps=dict(classes=["a"])), None, "maps: .*expected 0 for unlabelled"),
    "pictures": (
        dict(boxes=dict(train=dict(BOXES["train"], images="images/validation"))), None,
        "boxes: .*pictures do not exist",
    ),
    "recipe": (dict(boxes=dict(recipe=MAPS["recipe"])), None, "learns segmentation, and the form"),
    "recipe that draws nothing": (
        dict(sets=dict(a=dict(recipe=BOXES["recipe"], format="shapes")), report="val"), None,
        "a: the recipe .* does not draw its pictures, and the format is shapes",
    ),
    "option": (
        dict(boxes=dict(options={"train_dataloader.dataset.pipeline.2.scales": [64, 64]})), None,
        "boxes: .*Resize takes no such argument.*Did you mean 'scale'",
    ),
    "option for all": (
        dict(budget=dict(options={"modle.neck": 3})), None, "maps: .*no entry 'modle'",
    ),
    "image size": (dict(budget=dict(image_size=64)), None, "image_size=64 is for the shapes data"),
    "side of drawn pictures": (
        dict(sets=dict(a=dict(recipe="retinanet/retinanet_shapes.py", format="shapes")),
             report="val", budget=dict(image_size=32)), None,
        "a: shapes data: image_size=32, expected a whole number of at least 64",
    ),
    "epochs": (
        dict(sets=dict(a=dict(recipe=BOXES["recipe"])), budget=dict(epochs=2), report="val"), None,
        "a: epochs: the number of pictures of this set is not known",
    ),
    "order of categories": (
        {}, lambda: annotations(lambda content: content["categories"].reverse()),
        "boxes: .*is in the order .* names would be swapped",
    ),
    "no objects to score": (
        {}, lambda: annotations(lambda content: content.update(annotations=[])),
        "boxes: .*instances_val.json has no objects: nothing can be scored",
    ),
    "no pictures": ({}, lambda: annotations(lambda content: content.update(images=[])), "boxes: "),
    "categories without names": (
        {}, lambda: Path("data/annotations/instances_train.json").write_text(
            '{"images": [], "annotations": [], "categories": [{"id": 1}]}'
        ), "boxes: .*train.json: expected COCO's format, a list of categories, each with id and n",
    ),
    "cut off": (
        {}, lambda: Path("data/annotations/instances_train.json").write_text('{"images": ['),
        "boxes: .*train.json is no JSON",
    ),
    "empty class file": (
        dict(maps=dict(classes="none.txt")), lambda: Path("data/none.txt").write_text("\n"),
        "maps: .*none.txt: expected the names of the classes",
    ),
    "maps of another size": ({}, smaller_maps, "maps: .*is 32x32, its picture 64x64"),
    "missing": (
        {}, lambda: Path("data/annotations/instances_val.json").unlink(),
        "boxes: data/annotations/instances_val.json is missing; it is offered at https://exam",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "spoil", "message"), WRONG.values(), ids=WRONG)
def test_told_before_anything_is_trained(changes, spoil, message, root, monkeypatch, capsys):
    if spoil:
        spoil()
    tool = load("tools/leaderboard.py")
    monkeypatch.setattr(tool, "run_experiment", lambda *_: pytest.fail("trained"))
    for how in ([], ["--plan"])[spoil is None :]:
        assert tool.main([BACKBONES[0], "--protocol", written(**changes), *how]) == 1
        said = capsys.readouterr().out
        assert re.search(message, said, re.DOTALL) and said.startswith("error: protocol 'own'")
    assert not Path("leaderboard").exists()


def test_all_sets_that_are_wrong_are_named_at_once(root, capsys):
    path = written(boxes=dict(options={"a.b": 1}), maps=dict(val=dict(holdout=13)))
    (root / "annotations/instances_train.json").write_text("{}")
    assert load("tools/leaderboard.py").main([BACKBONES[0], "--protocol", path, "--plan"]) == 1
    said = capsys.readouterr().out
    assert "\n  boxes: " in said and "\n  maps: holdout: 13 of 12" in said


def test_what_is_suspicious_is_said(root, capsys):
    content = json.loads((root / "annotations/instances_train.json").read_text())
    content["annotations"][0]["bbox"][2] = 640
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    tool = load("tools/leaderboard.py")
    command = [BACKBONES[0], "--protocol", written(), "--plan"]
    assert tool.main(command) == 0
    said = capsys.readouterr().out
    assert "warning: boxes: train_dataloader.dataset: 1 boxes of " in said and "6 commands" in said


def test_fewer_shots_than_asked_for_are_said(root, capsys):
    content = json.loads((root / "annotations/instances_train.json").read_text())
    counts = Counter(each["category_id"] for each in content["annotations"])
    names = {each["id"]: each["name"] for each in content["categories"]}
    most = max(counts.values())
    path = written(
        boxes=dict(train=BOXES["train"] | dict(shots=most)),
        maps=dict(train=MAPS["train"] | dict(shots=7)),
    )
    assert load("tools/leaderboard.py").main([BACKBONES[0], "--protocol", path, "--plan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    lacking = [names[k] for k, count in sorted(counts.items()) if count < most]
    assert lacking and all(f" of '{name}'" in said for name in lacking)
    assert f"warning: boxes: {most} shots, and there are " in said
    assert "warning: maps: 7 shots, and there are 6 pictures" in said
    assert f" of '{names[max(counts, key=counts.get)]}'" not in said


def test_data_of_what_is_done_may_be_gone(root, capsys):
    tool, command = load("tools/leaderboard.py"), [BACKBONES[0], "--protocol", written(), "--plan"]
    assert tool.main([*command, "--sets", "boxes", "--seeds", "1"]) == 0
    (run,) = plan(load_protocol("own.yml"), {"pool": BACKBONES[0][5:]}, Path("leaderboard"))[:1]
    run.folder.mkdir(parents=True)
    result = dict(run.about, schema=2, failure=None, score=1.0)
    run.experiment().result.write_text(json.dumps(result))
    shutil.rmtree(root)
    assert tool.main([*command, "--sets", "boxes", "--seeds", "1"]) == 0
    assert "plan.txt: 0 commands" in capsys.readouterr().out
    assert tool.main([*command, "--sets", "boxes", "--seeds", "2"]) == 1


def test_backbones_are_tried_before_anything_is_trained(root, monkeypatch, capsys):
    tool, path = load("tools/leaderboard.py"), written()
    monkeypatch.setattr(tool, "run_experiment", lambda *_: pytest.fail("trained"))
    starts = ["--starts", "random", "fine-tuned", "--protocol", path, "--plan"]
    assert (
        tool.main(
            [BACKBONES[0], "poolfromer_s12", "bad=dict(type='PoolFormer', arch='s9')", *starts]
        )
        == 1
    )
    said = capsys.readouterr().out
    assert said.startswith("error: backbones that cannot be trained:\n") and "pool," not in said
    assert re.search(r"poolfromer_s12, retinanet_1x_coco, random: .*'poolformer_s12'", said)
    assert "bad, retinanet_1x_coco, random: " in said and not Path("leaderboard").exists()
    # One that can be trained from some starts is.
    assert tool.main([BACKBONES[0], *starts]) == 0
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if "no pretrained weights are known" in line]
    assert [line.split(":")[1] for line in lines] == [
        f" pool, {Path(one['recipe']).stem}, fine-tuned" for one in (BOXES, MAPS)
    ]
    assert lines[0].startswith("warning: ") and "plan.txt: 12 commands" in said
