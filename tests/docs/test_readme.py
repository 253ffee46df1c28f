"""What the README shows is what the repository does."""

from __future__ import annotations

import re
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS
from programs import load

import mmplugins
from mmplugins.checks import CHECKS
from mmplugins.engine.config.fitting import check_fit

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONFIG, CALLS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_the_table_of_backbones_is_up_to_date():
    text = (ROOT / "docs/backbones.md").read_text()
    assert load("tools/config_tables.py").backbones() in text, "run tools/config_tables.py"


def test_the_table_of_backbones_is_the_catalogue():
    text = (ROOT / "docs" / "backbones.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, flags=re.M) == mmplugins.list_backbones()


def test_the_families_of_the_readme_are_those_registered():
    table = README.partition("| family |")[2]
    rows = re.findall(r"^\| (\w+) \| [^|]+ \| ([\w ]+) \| ", table, flags=re.M)
    listed = [f"{family.lower()}_{arch}" for family, sizes in rows for arch in sizes.split()]
    hybrids = {n for n in mmplugins.list_backbones() if n.startswith("poolformer_s12_")}
    assert sorted(listed) == sorted(set(mmplugins.list_backbones()) - hybrids) and hybrids


def test_the_config_fits(tmp_path):
    (tmp_path / "mine.py").write_text(CONFIG)
    cfg = Config.fromfile(tmp_path / "mine.py")
    cfg.model.backbone.init_cfg = None  # no download
    check_fit(cfg)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models:
        model = models.build(cfg.model)
    strides = list(model.backbone.out_strides)
    assert strides == [stride for stride, _ in model.bbox_head.prior_generator.strides[:3]]
    assert model.neck.backbone_end_level - model.neck.start_level == len(strides)


def test_the_calls_return_what_their_comments_say():
    space: dict = {}
    exec(CALLS, space)
    (names,) = re.findall(r"list_backbones\(\)  # (.+)", CALLS)
    first, last = re.fullmatch(r"\['(\w+)', \.\.\., '(\w+)'\]", names).groups()
    known = mmplugins.list_backbones()
    assert (first, last) == (known[0], known[-1])
    (expression, values) = re.findall(r"^(backbone\..+?)  # (.+)$", CALLS, flags=re.M)[0]
    assert eval(expression, space) == eval(values)


def test_the_guide_lists_the_checks():
    text = (ROOT / "docs/checks.md").read_text().partition("| check |")[2]
    listed = re.findall(r"^\| (\w[\w ]*?) \|", text, flags=re.M)
    assert listed == [check.name for check in CHECKS]
