import pytest
import torch

from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.stages import run_marked, stage_ends
from mmplugins.benchmark.stopwatch import Stopwatch
from mmplugins.benchmark.subjects import Subject

STAGES = ["stage 0", "stage 1", "stage 2", "stage 3"]


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ("poolformer_s12", ["stem", *STAGES, "output norms"]),
        ("poolformer_s12:deploy", ["stem", *STAGES, "output norms"]),
        ("timm/resnet18", ["up to stage 0", *STAGES[1:], "rest"]),
        ("configs/semantic_fpn/semantic-fpn_shapes.py", ["backbone", "neck", "head"]),
        ("configs/retinanet/retinanet_shapes.py", ["backbone", "neck", "head"]),
    ],
)
def test_laps_in_order_and_in_full(row, names):
    subject = Subject(parse_row(row))
    images, watch = subject.images((64, 64)), Stopwatch()
    before = [len(m._forward_hooks) for m in subject.model.modules()]
    watch.start()
    run_marked(subject, images, stage_ends(subject), watch)
    first, last = watch.marks[0][1], watch.marks[-1][1]
    laps = watch.stop()
    assert list(laps) == names
    assert sum(laps.values()) == pytest.approx(last - first)
    assert [len(m._forward_hooks) for m in subject.model.modules()] == before


def test_time_goes_to_the_stage_that_spends_it():
    subject = Subject(parse_row("poolformer_s12"))
    now = [0.0]
    watch = Stopwatch(clock=lambda: now[0])
    spent = {"stem": 1, "stages.0": 2, "stages.1": 4, "stages.2": 8, "stages.3": 16}
    for name, seconds in spent.items():
        subject.model.get_submodule(name).register_forward_pre_hook(
            lambda *_, seconds=seconds: now.__setitem__(0, now[0] + seconds)
        )
    subject.model.out_norms["3"].register_forward_pre_hook(
        lambda *_: now.__setitem__(0, now[0] + 32)
    )
    watch.start()
    run_marked(subject, subject.images((32, 32)), stage_ends(subject), watch)
    assert list(watch.stop().values()) == [1, 2, 4, 8, 16, 32]


def test_rows_without_visible_stages_say_so(monkeypatch):
    subject = Subject(parse_row("poolformer_s12"), out_indices=(0,))
    subject.compiled = True
    with pytest.raises(ValueError, match="compiled"):
        stage_ends(subject)
    monkeypatch.setattr(
        "mmplugins.benchmark.subjects.build_model", lambda *_: torch.nn.Conv2d(3, 3, 1)
    )
    with pytest.raises(ValueError, match="odd: its stages are not known"):
        stage_ends(Subject(parse_row("odd")))
