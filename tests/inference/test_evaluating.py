"""What a runtime finds reaches the evaluators as the model's own samples would."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch.utils.data import Dataset

import mmplugins
from mmplugins.inference.evaluating import ExportedModel, metrics_of


@pytest.mark.parametrize("recipe", ["mask_rcnn", "semantic_fpn"])
def test_samples_are_the_models_own(recipe, trained, pictures):
    model = mmplugins.load_model(trained(recipe)[1], device="cpu")
    two = [[model.prepare(model.read(str(p)), str(p)) for p in pictures[:2]] for _ in range(2)]
    found = ExportedModel(model.runtime).test_step(pseudo_collate(two[0]))
    with torch.no_grad():
        expected = model.runtime.model.test_step(pseudo_collate(two[1]))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.img_path == theirs.img_path
        if recipe == "semantic_fpn":
            assert torch.equal(ours.pred_sem_seg.data, theirs.pred_sem_seg.data)
            continue
        ours, theirs = ours.pred_instances, theirs.pred_instances
        assert len(ours) == len(theirs) > 3
        torch.testing.assert_close(ours.bboxes, theirs.bboxes, atol=1e-3, rtol=0)
        assert torch.equal(ours.labels, theirs.labels)
        assert (ours.masks != theirs.masks).float().mean() < 1e-4


class _Talks(BaseMetric):
    """As mmdet's: it tells the console what it does."""

    default_prefix = "its"

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        MMLogger.get_current_instance().info("Evaluating bbox...")
        print("index created!")
        return dict(found=len(results))


class _Numbers(Dataset):
    metainfo: ClassVar = dict(classes=("a",))

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return torch.tensor(index)


def test_figures_are_returned_and_nothing_is_printed(trained, monkeypatch, capsys):
    monkeypatch.setattr(ExportedModel, "test_step", lambda self, data: [])
    cfg = Config.fromfile(trained("mask_rcnn")[0])
    sampler = dict(type="DefaultSampler", shuffle=False)
    cfg.val_dataloader = dict(batch_size=1, dataset=_Numbers(), sampler=sampler)
    cfg.val_evaluator = [_Talks()]
    logger = MMLogger.get_current_instance()
    told: list[str] = []
    monkeypatch.setattr(logger, "callHandlers", lambda record: told.append(record.getMessage()))
    level = logger.level
    logger.setLevel("INFO")
    found = metrics_of(SimpleNamespace(path="m.onnx"), cfg, trust=True)
    assert found == {"its/found": 3} and told == [] and capsys.readouterr().out == ""
    logger.info("as before")
    assert told == ["as before"]
    logger.setLevel(level)
