"""What a runtime finds reaches the evaluators as the model's own samples would."""

from __future__ import annotations

import pytest
import torch
from mmengine.dataset import pseudo_collate

import mmplugins
from mmplugins.inference.evaluating import ExportedModel


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
