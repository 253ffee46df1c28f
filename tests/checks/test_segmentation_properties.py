"""Drawn label maps: what mmseg trains is not refused, refusals are named, truth scores 100."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
from drawn_sets import label_sets, loaded, names_remedy, write_labels
from few_and_many import few_and_many
from hypothesis import strategies as st

from mmplugins.checks import DataError, check_data
from mmplugins.evaluation.iou import PerClassIoUMetric


def legal(drawn):
    with tempfile.TemporaryDirectory() as folder:
        cfg = write_labels(Path(folder), drawn)
        samples = loaded(cfg)
        assert len(samples) == len(drawn["maps"])
        assert check_data(cfg, full=True) == []
        metric = PerClassIoUMetric()
        metric.dataset_meta = dict(classes=drawn["classes"])
        for sample in samples:
            truth = sample["data_samples"].gt_sem_seg.data
            found = dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=truth.clone()))
            metric.process({}, [found])
        assert metric.evaluate(len(samples))["mIoU"] == 100


def illegal(drawn, data):
    """One file cut, lost, of another size, or with other values."""
    draw = data.draw
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        stem = draw(st.sampled_from(sorted(drawn["maps"])))
        labels = drawn["maps"][stem]
        how = draw(
            st.sampled_from(["value", "size", "channels", "cut", "lose", "empty", "text", "line"])
        )
        if how == "value":
            labels[3:6, 3:6] = draw(st.integers(0, 255))
        elif how == "size":
            drawn["maps"][stem] = labels[: draw(st.integers(1, labels.shape[0]))]
        elif how == "channels":
            count = draw(st.sampled_from([3, 4]))
            drawn["maps"][stem] = np.repeat(labels[..., None], count, axis=-1)
        cfg = write_labels(root, drawn)
        kind, suffix = draw(
            st.sampled_from([("images", drawn["suffix"]), ("labels", drawn["map_suffix"])])
        )
        path = root / kind / f"{drawn['folder']}{stem}{suffix}"
        if how == "size":  # of the map alone
            picture = root / "images" / f"{drawn['folder']}{stem}{drawn['suffix']}"
            whole = np.full((*labels.shape[:2], 3), 90, np.uint8)
            picture.write_bytes(cv2.imencode(picture.suffix, whole)[1].tobytes())
        if how == "cut":
            os.truncate(path, draw(st.integers(0, path.stat().st_size - 1)))
        elif how == "lose":
            path.unlink()
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "text":
            path.write_text("<html>not found</html>")
        elif how == "line" and drawn["listed"]:
            with (root / "names.txt").open("a") as file:
                file.write(draw(st.sampled_from(["\n", "gone\n", "  \n"])))
        try:
            check_data(cfg, full=True)
        except DataError as error:
            assert names_remedy(error), (how, str(error))
            return
        for sample in loaded(cfg):
            truth = sample["data_samples"].gt_sem_seg.data
            assert truth.shape[-2:] == sample["inputs"].shape[-2:], how
            values = set(truth.unique().tolist())
            assert values <= {*range(len(drawn["classes"])), 255}, how


test_legal_sets, test_many_legal_sets = few_and_many(legal, 25, 600, label_sets())
test_spoilt_sets, test_many_spoilt_sets = few_and_many(illegal, 60, 3000, label_sets(), st.data())
