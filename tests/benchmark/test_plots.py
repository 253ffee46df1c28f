"""Plots of a made-up report: what they show is read back from the figures."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import combinations

import pytest
from made_up import ROWS, SIZES, write_results
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from mmplugins.backbones.catalog import families
from mmplugins.benchmark.palette import FAMILIES, family_style, part_color
from mmplugins.benchmark.plots import (
    Point,
    accuracy_against_latency,
    latency_against_pixels,
    memory,
    plots_of,
    published_accuracy,
    published_top1,
    save_plots,
    short_label,
    time_by_stage,
)
from mmplugins.benchmark.report import make_report
from mmplugins.benchmark.results import Results, read_results


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_report(read_results(write_results(tmp_path_factory.mktemp("plots") / "r.jsonl")))


def texts(figure):
    axes = figure.axes[0]
    return [text.get_text() for text in axes.texts]


def extents(figure):
    """Where the labels of points lie, by their text."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    labels = figure.axes[0].texts
    return {t.get_text(): Bbox(t.get_window_extent(renderer).get_points()) for t in labels}


def test_each_case_has_its_plots(report):
    names = set(plots_of(report))
    per_case = {f"{k}_{s}x{s}_batch1" for s in SIZES for k in ("accuracy", "stages", "memory")}
    assert names == per_case | {"growth_batch1"}


def test_nothing_measured_nothing_drawn():
    results = Results()
    results.take(dict(kind="head", environment={}, settings={}))
    assert plots_of(make_report(results)) == {}
    assert accuracy_against_latency([], "AP", "title") is None


def test_growth_shows_points_and_exponents(report):
    figure = latency_against_pixels(report, 1)
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    ends = {row: base * SIZES[-1] ** (2 * e) / 512 ** (2 * e) for row, (_, base, e) in ROWS.items()}
    order = sorted(ROWS, key=lambda row: -ends[row])
    assert legend == [f"{row}  e = {ROWS[row][2]:.2f}" for row in order]
    drawn = {tuple(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 3}
    # Medians of 7 rounds are 3 % above the base.
    expected = tuple(79.0 * 1.03 * (s / 512) ** 2 for s in SIZES)
    assert any(each == pytest.approx(expected) for each in drawn)


def test_stages_add_up(report):
    figure = time_by_stage(report, [512, 512], 1)
    axes = figure.axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == sorted(ROWS, key=lambda row: ROWS[row][1])
    ends = {}
    for bar in axes.patches:
        at = round(bar.get_y() + bar.get_height() / 2)
        ends[rows[at]] = max(ends.get(rows[at], 0), bar.get_x() + bar.get_width())
    assert ends == pytest.approx({row: base * 1.03 for row, (_, base, _) in ROWS.items()})
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["stem", "stage 1", "stage 2"] and "50%" in texts(figure)


def test_memory_of_inference_and_training(report):
    figure = memory(report, [512, 512], 1)
    shown = texts(figure)
    assert f"{40 * 2e6 / 2**20:,.0f}" in shown and f"{40 * 14e6 / 2**20:,.0f}" in shown
    assert len(shown) == 2 * len(ROWS) - 1  # a deployed row does not train


def test_published_accuracy():
    assert published_top1("poolformer_s12") == 77.2
    assert published_top1("timm/poolformer_s12") == 77.2
    assert published_top1("timm/resnet50") is None and published_top1("nonsense") is None


def test_options_of_all_rows_stand_in_the_note_and_not_in_each_label(report):
    before = published_accuracy(report, [512, 512], 1)
    alike = deepcopy(report)
    for row in alike["rows"]:
        row.setdefault("options", []).append("compile")
    figure = published_accuracy(alike, [512, 512], 1)
    assert texts(figure) == texts(before) and len(texts(figure)) > 1
    assert "All rows: compile." in figure.get_supxlabel()
    assert "All rows" not in before.get_supxlabel()


def test_labels_of_nearly_one_spot_part():
    rows = [
        ("poolformerv2_s12:deploy,freeze", (110.3, 118.0, 121.6), 78.0),
        ("timm/poolformerv2_s12", (114.9, 117.9, 119.2), 78.0),
        ("poolformer_s12:deploy,freeze", (116.6, 119.6, 121.4), 77.2),
        ("timm/poolformer_s12", (124.4, 127.6, 132.6), 77.2),
        ("caformer_s18", (321, 343, 358), 83.6),
        ("identityformer_s12", (108.0, 110.9, 113.9), 74.6),
    ]
    points = [
        Point(label, label, tuple(ms / 1000 for ms in times), (score,) * 3)
        for label, times, score in rows
    ]
    figure = accuracy_against_latency(points, "AP", "A title")
    assert len(extents(figure)) == len(rows)
    for a, b in combinations(extents(figure).values(), 2):
        assert not a.overlaps(b)


def test_long_labels_beside_wide_bars_part():
    rows = [
        ("convformer_s18", (370.0, 385.5, 407.5), (47.8, 55.3, 62.8)),
        ("identityformer_s12", (213.8, 222.4, 234.7), (53.3, 53.7, 54.2)),
        ("caformer_s18", (461.5, 478.0, 495.6), (49.7, 53.2, 56.8)),
        ("smlpnet_t", (520.4, 563.4, 592.5), (37.2, 48.5, 59.8)),
        ("convnext_tiny", (399.3, 410.7, 428.1), (40.6, 47.9, 55.3)),
        ("randformer_s12", (234.6, 245.7, 262.7), (33.9, 41.2, 48.5)),
        ("poolformer_s12_identity", (227.2, 235.1, 248.4), (37.8, 39.7, 41.6)),
        ("riformer_s12", (230.2, 246.9, 258.9), (32.8, 38.5, 44.3)),
        ("poolformer_s12_ppff", (256.1, 270.8, 284.4), (25.7, 32.6, 39.5)),
        ("poolformer_s12_pppf", (252.2, 268.9, 278.1), (29.6, 32.9, 36.2)),
        ("poolformer_s12", (251.0, 269.8, 281.1), (27.7, 32.8, 37.9)),
        ("poolformerv2_s12", (220.4, 225.6, 239.6), (31.3, 32.0, 32.7)),
        ("poolformer_s12_pppa", (244.1, 254.3, 268.9), (10.8, 11.8, 12.8)),
        ("poolformer_s12_ppaa", (338.4, 356.9, 378.9), (7.9, 10.5, 13.1)),
    ]
    points = [
        Point(label, label.partition("_")[0], tuple(ms / 1000 for ms in times), score)
        for label, times, score in rows
    ]
    figure = accuracy_against_latency(points, "mIoU in %", "A title")
    assert len(extents(figure)) == len(rows)
    for a, b in combinations(extents(figure).values(), 2):
        assert not a.overlaps(b)
    joined = [line for line in figure.axes[0].lines if line.get_alpha() == 0.35]
    # PoolFormer's are no series of sizes, and the other eight families have a point each.
    assert [len(line.get_xdata()) for line in joined] == [1] * 8


def crowd():
    """Three dense heaps of points with wide bars."""
    found = []
    for k in (1, 2, 3):
        for i, family in enumerate(("poolformer", "riformer", "caformer", "other")):
            ms, score = 30 * k + i, 30 + 2 * k + 0.1 * i
            latency = ms / 1000 * 0.97, ms / 1000, ms / 1000 * 1.1
            found.append(Point(f"{family}_s{12 * k}", family, latency, (score - 0.5, score, score)))
    return found


def test_labels_cover_nothing_and_stay_inside_and_the_front_is_a_line_of_steps():
    points = [replace(p, front=k in (0, 5)) for k, p in enumerate(crowd())]
    figure = accuracy_against_latency(points, "AP", "A title")
    axes, boxes = figure.axes[0], extents(figure)
    frame = axes.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert set(boxes) == {p.label for p in points}
    assert all(frame.contains(*corner) for box in boxes.values() for corner in box.corners())
    for a, b in combinations(boxes, 2):
        assert not boxes[a].overlaps(boxes[b]), (a, b)
    for point in points:
        x, y = axes.transData.transform((1e3 * point.latency[1], point.score[1]))
        assert not any(box.contains(x, y) for box in boxes.values()), point.label
    (line,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert line.get_xdata() == pytest.approx([30, 61]) and len(line.get_ydata()) == 2


def test_a_long_note_stays_inside_the_figure():
    note = "512x512, batch 1, AMD EPYC, 1 threads, torch 2.15.0. " + "Bars: 95 % interval. " * 6
    figure = accuracy_against_latency(crowd()[:2], "AP", "A title", note)
    renderer = FigureCanvasAgg(figure).get_renderer()
    box = figure._supxlabel.get_window_extent(renderer)
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0


def test_bars_show_the_spread():
    figure = accuracy_against_latency(crowd()[:1], "AP", "A title")
    axes = figure.axes[0]
    (across, up) = (c.get_segments()[0] for c in axes.containers[0][2])
    assert axes.get_xscale() == "log"
    assert across[:, 0] == pytest.approx([29.1, 33.0]) and up[:, 1] == pytest.approx([31.5, 32.0])


def test_every_family_has_a_colour():
    assert families() and set(families()) <= set(FAMILIES)


def test_colours_are_steady_and_apart():
    assert len({color for color, _ in FAMILIES.values()}) == len(FAMILIES)
    assert len({marker for _, marker in FAMILIES.values()}) == len(FAMILIES)
    assert family_style("PoolFormer") == FAMILIES["poolformer"]
    assert family_style("unheard of") == family_style("unheard of") and family_style(None)
    assert part_color("stem", 5) == part_color("stem", 0)


def test_short_labels():
    whole = dict(row="a/b/net.py@caformer_s18:bf16", name="a/b/net.py", whole=True)
    assert short_label(whole) == "net @ caformer_s18:bf16"
    backbone = "dict(type='TimmBackbone', model_name='resnet18', init_cfg=dict(checkpoint='a.pth'))"
    named = dict(whole, row=f"a/b/net.py@{backbone}:bf16", backbone=backbone)
    assert short_label(named) == "net @ timm/resnet18:bf16"
    assert len(short_label(dict(row="x" * 90))) == 44


def test_files_are_written_whole(report, tmp_path):
    plots = {"growth": latency_against_pixels(report, 1)}
    files = save_plots(plots, tmp_path / "new" / "cost")
    assert [file.name for file in files] == ["cost_growth.png", "cost_growth.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG") and b"</svg>" in files[1].read_bytes()
    assert sorted(files) == sorted((tmp_path / "new").iterdir())
