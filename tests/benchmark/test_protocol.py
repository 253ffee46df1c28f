"""Protocols: those that ship, what is refused, and what a folder keeps of its own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmplugins.benchmark.protocol import ProtocolError, changed
from mmplugins.benchmark.protocol_files import as_yaml, load_protocol, of_recipes, shipped
from mmplugins.benchmark.runs import plan, run_config
from mmplugins.benchmark.set_checks import check_sets
from mmplugins.benchmark.settled import from_plain, read_settled, settle
from mmplugins.engine import load_config

COCO = dict(annotations="train.json", images="train")
ONE = dict(recipe="retinanet/retinanet_1x_coco.py", format="coco", root="data", train=COCO,
           val=dict(COCO, annotations="val.json"), test=dict(COCO, annotations="test.json"),
           offered_at="https://example.org/data")  # fmt: skip


def write(folder, name="own", **changes):
    data = dict(sets=dict(cells=ONE), budget=dict(steps=3, batch=2)) | changes
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
    return str(path)


@pytest.mark.parametrize("name", shipped())
def test_those_that_ship(name, tmp_path):
    (tmp_path / "some-set").mkdir()
    with_sets = name in ("fewshot", "rf100-vl", "vfm-ss")
    protocol = load_protocol(name, {"each": str(tmp_path)} if with_sets else {})
    assert protocol.title and protocol.sets and from_plain(protocol.plain()) == protocol
    if name != "shapes-quick":
        assert "arXiv" in protocol.source and protocol.departures
        with pytest.raises(ProtocolError, match="is missing.*it is offered at http"):
            check_sets(plan(replace(protocol, sets=protocol.sets[:1]), {"b": ""}, tmp_path))
    for one in protocol.sets:
        assert load_config(one.recipe).model


def test_optimisers_of_those_that_ship(tmp_path):
    """Rates, decay and schedule of Battle of the Backbones and of benchmark-vfm-ss."""
    (tmp_path / "bob/annotations").mkdir(parents=True)
    categories = [dict(id=1, name="cat")]
    images = [dict(id=i, file_name=f"{i}.jpg", width=9, height=9) for i in range(5016)]
    content = dict(images=images, annotations=[], categories=categories)
    for split in ("train", "val"):
        path = tmp_path / f"bob/annotations/instances_{split}2017.json"
        path.write_text(json.dumps(content))
    labels = tmp_path / "vfm/ade/annotations/training"
    labels.mkdir(parents=True)
    (labels / "a.png").touch()
    (tmp_path / "vfm/ade/classes.txt").write_text("sky\nsea\n")

    def config(name, **roots):
        protocol = load_protocol(name, {k: str(tmp_path / v) for k, v in roots.items()})
        return run_config(plan(protocol, {"b": "poolformer_s12"}, tmp_path / "out")[0])

    bob = config("bob-detection", coco="bob")
    optimizer, (warm, fall) = bob.optim_wrapper, bob.param_scheduler
    assert optimizer.optimizer.lr == 8e-5 and optimizer.optimizer.weight_decay == 0.05
    assert optimizer.constructor == "DefaultOptimWrapperConstructor" and not optimizer.paramwise_cfg
    assert bob.train_cfg.max_iters == fall.end == 36 and warm.end == 36  # 16 pictures at a time
    assert fall.milestones == [27, 33] and fall.gamma == 0.1

    vfm = config("vfm-ss", each="vfm")
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(vfm.model)
    groups = build_optim_wrapper(model, vfm.optim_wrapper).optimizer.param_groups
    kinds = {(round(g["lr"], 9), g["weight_decay"]) for g in groups}
    assert kinds == {(1e-5, 0.05), (1e-4, 0.05)}
    assert sum(len(g["params"]) for g in groups if g["lr"] < 5e-5) == len(
        list(model.backbone.parameters())
    )
    (fall,) = vfm.param_scheduler
    assert (fall.type, fall.power, fall.end) == ("PolyLR", 0.9, 40000)


def test_the_list_of_those_that_ship():
    assert shipped() == [
        "bob-detection", "coco-minitrain", "fewshot", "rf100-vl", "shapes-quick", "vfm-ss",
    ]  # fmt: skip


def test_a_file_is_read(tmp_path):
    options = {"optim_wrapper.optimizer.weight_decay": "5E-2", "log_level": "1e"}
    budget = dict(epochs=3, options=options)  # YAML 1.1 takes 5E-2 and 1e-4 for words
    path = write(
        tmp_path, learning_rates=["1e-4", 2e-3], starts="frozen", seeds=2, budget=budget
    )  # fmt: skip
    protocol = load_protocol(path, {"cells": "/elsewhere"})
    assert protocol.name == "own" and protocol.learning_rates == (1e-4, 2e-3)
    assert protocol.starts == ("frozen",) and protocol.sets[0].root == "/elsewhere"
    assert set(protocol.budget.options.values()) == {0.05, "1e"}
    again = tmp_path / "again.yml"
    again.write_text(as_yaml(protocol.plain()))
    assert replace(load_protocol(str(again)), name="own") == protocol


def test_each_folder_is_a_set(tmp_path):
    for name in ("b", "a"):
        (tmp_path / "data" / name).mkdir(parents=True)
    path = write(tmp_path, sets=dict(each=dict(ONE, root=str(tmp_path / "data"))))
    assert [one.name for one in load_protocol(path).sets] == ["a", "b"]
    both = write(tmp_path, sets=dict(each=dict(ONE, root=str(tmp_path / "data")), b=ONE))
    with pytest.raises(ProtocolError, match="sets has b twice"):
        load_protocol(both)
    with pytest.raises(ProtocolError, match="no folder with a data set.*offered at https://exam"):
        load_protocol(path, {"each": str(tmp_path / "nowhere")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(sets=None), "sets must name at least one"),
        (dict(seedz=3), "unknown key 'seedz'.*Did you mean 'seeds'"),
        (dict(budget=dict(step=3)), "budget: unknown key 'step'.*'steps'"),
        (dict(budget=dict(steps=0)), "steps=0: expected a whole number"),
        (dict(sets=dict(cells=dict(ONE, tst=1))), "sets.cells: unknown key 'tst'.*'test'"),
        (dict(sets=dict(cells={})), "recipe is missing"),
        (dict(sets=dict(cells=dict(ONE, recipe="no.py"))), "recipe 'no.py': no such config"),
        (dict(sets=dict(cells={k: v for k, v in ONE.items() if k != "test"})),
         "'cells' has no test split.*holdout"),
        (dict(sets=dict(cells={k: v for k, v in ONE.items() if k != "val"}), select="best"),
         "'cells' has no val split"),
        (dict(report="val", learning_rates=[1e-4, 1e-3]), "chooses on the validation split and"),
        (dict(report="val", select="best"), "chooses on the validation split and"),
        (dict(sets=dict(cells=dict(ONE, test="test"))), "'cells': test is 'test': expected keys"),
        (dict(sets=dict(cells=dict(ONE, test=dict(images="x")))), "test: annotations missing"),
        (dict(sets=dict(cells=dict(ONE, test=dict(COCO, shots=1)))), "unknown key 'shots'"),
        (dict(sets=dict(cells=dict(ONE, val=dict(holdout=0)))), "holdout=0: expected a whole"),
        (dict(sets=dict(cells=dict(ONE, classes=3))), "classes is 3: expected a list, each"),
        (dict(sets=dict(cells=dict(ONE, classes=["yes", False]))), "a list, each text .in"),
        (dict(sets=dict(cells=dict(ONE, classes=["a", "b", "a"]))), "classes has a name twice"),
        (dict(sets=dict(cells=dict(ONE, suffixes=[".png"]))), "suffixes is .*, 2 of them"),
        (dict(sets=dict(cells=dict(ONE, reduce_zero_label="no"))), "'no': expected true or false"),
        (dict(sets=dict(cells=dict(ONE, root=3))), "root is 3: expected text"),
        (dict(sets=dict(cells=dict(ONE, recipe=["a"]))), "recipe is .*: expected text"),
        (dict(sets=dict(cells=dict(ONE, options=[1]))), "options is .*: expected keys and values"),
        (dict(sets=dict(cells=dict(ONE, test=dict(COCO, images=3)))), "images is 3: expected a p"),
        (dict(sets=dict(cells=dict(ONE, val=dict(COCO, holdout=3)))), "unknown key 'annotations'"),
        (dict(sets={"../cells": ONE}), "'../cells', which cannot be the name of its folder"),
        (dict(sets={"": ONE}), "'', which cannot be the name of its folder"),
        (dict(budget=dict(steps=3, epochs=2)), "steps and epochs exclude each other"),
        (dict(budget=dict(amp="yes")), "amp is 'yes': expected true or false"),
        (dict(budget=dict(image_size=0)), "image_size=0: expected a whole number"),
        (dict(budget=dict(decay=[float("nan")])), "decay is .nan,.: expected text"),
        (dict(starts=["random", "random"]), "starts has random twice"),
        (dict(learning_rates=[1e-3, 0.001]), "learning_rates has 0.001 twice"),
        (dict(learning_rates=[1e-3, 0]), "learning_rates is .*: expected numbers above 0"),
        (dict(learning_rates=[-1e-3]), "learning_rates is .*: expected numbers above 0"),
        (dict(learning_rates=[float("nan")]), "learning_rates is .nan,.: expected a list, each a"),
        (dict(learning_rates=[True]), "learning_rates is .True,.: expected a list, each a finite"),
        (dict(title=3), "title is 3: expected text"),
        (dict(select="first"), "select is 'first': expected best or last"),
        (dict(starts=["scratch"]), "starts is 'scratch'"),
        (dict(seeds=0), "seeds=0: expected a whole number"),
        (dict(learning_rates=["fast"]), "learning_rates is .'fast',.: expected a"),
    ],
)  # fmt: skip
def test_what_is_refused(changes, message, tmp_path):
    with pytest.raises(ProtocolError, match=message):
        load_protocol(write(tmp_path, **changes))


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(ProtocolError, match="unknown protocol 'bob'.*shapes-quick"):
        load_protocol("bob")
    with pytest.raises(ProtocolError, match="'no/own.yml': there is no such file in .*no$"):
        load_protocol("no/own.yml")
    with pytest.raises(ProtocolError, match="--data names streets, and its sets are cells"):
        load_protocol(write(tmp_path), {"streets": "x"})
    (tmp_path / "bad.yml").write_text("a: [1")
    with pytest.raises(ProtocolError, match="bad.yml is no YAML"):
        load_protocol(str(tmp_path / "bad.yml"))
    for twice in ("seeds: 1\nseeds: 2\n", "sets: {1: {}, '1': {}}"):
        (tmp_path / "bad.yml").write_text(twice)
        with pytest.raises(ProtocolError, match="bad.yml is no YAML: .*(seeds|1) stands twice"):
            load_protocol(str(tmp_path / "bad.yml"))
    (tmp_path / "bad.yml").write_bytes(b"title: \xff")
    with pytest.raises(ProtocolError, match="bad.yml is no YAML: .*utf-8"):
        load_protocol(str(tmp_path / "bad.yml"))
    (tmp_path / "bad.yml").write_text("words")
    with pytest.raises(ProtocolError, match="expected keys and values"):
        load_protocol(str(tmp_path / "bad.yml"))
    with pytest.raises(ProtocolError, match="no set 'cell': expected some of cells.*'cells'"):
        changed(load_protocol(write(tmp_path)), ["cell"])


def test_changes_are_named_among_the_departures(tmp_path):
    protocol = load_protocol(write(tmp_path, source="A paper", departures=["one"]))
    other = changed(protocol, None, steps=9, seeds=5, lr=None)
    assert other.budget.steps == 9 and other.seeds == 5
    assert other.departures == ("one", "on the command line, steps=9")
    assert changed(protocol) == protocol
    epochs = load_protocol(write(tmp_path, budget=dict(epochs=2)))
    assert changed(epochs, steps=9).budget.steps_for(100) == 9


def test_one_protocol_and_budget_to_a_folder(tmp_path):
    protocol, out = load_protocol(write(tmp_path)), tmp_path / "out"
    assert settle(protocol, {"a": "poolformer_s12"}, out) == protocol
    noted = (out / "protocol.json").read_bytes()
    for other, message in (
        (changed(protocol, steps=4), "steps: 3, now 4"),
        (changed(protocol, learning_rates=(1e-3,)), "learning_rates"),
        (replace(protocol, name="other"), "the protocol 'own', and this is 'other'"),
        (replace(protocol, sets=(replace(protocol.sets[0], classes=("x",)),)), "cells.classes"),
    ):
        with pytest.raises(ProtocolError, match=message):
            settle(other, {"a": "poolformer_s12"}, out)
    with pytest.raises(ProtocolError, match="'a' as poolformer_s12, and now it is resnet"):
        settle(protocol, {"a": "resnet"}, out)
    assert (out / "protocol.json").read_bytes() == noted

    # A folder of before a setting existed has its default.
    old = json.loads(noted)
    del old["protocol"]["budget"]["decay"], old["protocol"]["budget"]["warm_up"]
    (out / "protocol.json").write_text(json.dumps(old))
    settle(protocol, {"a": "poolformer_s12"}, out)
    assert (out / "protocol.json").read_bytes() == noted

    # More backbones, seeds, starts and sets are welcome, and data may lie elsewhere.
    more = replace(protocol.sets[0], name="more"), replace(protocol.sets[0], root="elsewhere")
    larger = replace(protocol, seeds=5, starts=("frozen",), sets=more)
    settle(larger, {"b": "caformer_s18"}, out)
    found, backbones = read_settled(out)
    assert found.seeds == 5 and set(found.starts) == {"random", "frozen"}
    assert {one.name for one in found.sets} == {"cells", "more"} and set(backbones) == {"a", "b"}


def test_folders_of_other_versions_and_without_a_protocol(tmp_path):
    protocol = load_protocol(write(tmp_path))
    (tmp_path / "old").mkdir()
    (tmp_path / "old/budget.json").write_text("{}")
    with pytest.raises(ProtocolError, match="earlier version of mmplugins.*another --out"):
        settle(protocol, {}, tmp_path / "old")
    with pytest.raises(ProtocolError, match="no trainings were planned there"):
        read_settled(tmp_path / "old")
    (tmp_path / "lost/runs").mkdir(parents=True)
    with pytest.raises(ProtocolError, match=r"protocol.json is gone"):
        settle(protocol, {}, tmp_path / "lost")
    (tmp_path / "bad").mkdir()
    for text in ("{", json.dumps(dict(schema=9))):
        (tmp_path / "bad/protocol.json").write_text(text)
        with pytest.raises(ProtocolError, match="no protocol of this version"):
            read_settled(tmp_path / "bad")


def test_recipes_as_they_are():
    protocol = of_recipes(["retinanet/retinanet_shapes.py"] * 2)
    assert [one.name for one in protocol.sets] == ["retinanet_shapes"]
    assert protocol.starts == ("recipe",) and protocol.report == "val"
    with pytest.raises(ProtocolError, match="two configs are called 'net'"):
        of_recipes(["a/net.py", "b/net.py"])
