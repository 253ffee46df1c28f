"""The plain module that is exported finds what mmdet's and mmseg's own code finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_recipes import checkpoint_of, config_of
from torch import nn

import mmplugins
from mmplugins.deployment.errors import ExportError
from mmplugins.deployment.graphs import example, graph_of
from mmplugins.deployment.open_sizes import OpenAdaptivePool
from mmplugins.inference.exported import ExportedRuntime

DETECTORS = ("retinanet", "fcos", "mask_rcnn", "cascade_mask_rcnn")
SEGMENTORS = ("semantic_fpn", "upernet")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")

    def load(recipe, **options):
        config = config_of(recipe, folder)
        options = {f"model.{key}": value for key, value in options.items()}
        return mmplugins.load_model(
            config, checkpoint_of(config, f"{recipe}.pth"), device="cpu", options=options
        )

    return load


class Eager:
    """A graph in place of an exported file."""

    def __init__(self, graph, names):
        self.graph, self.names = graph, names

    def __call__(self, images):
        with torch.no_grad():
            found = self.graph(torch.from_numpy(images))
        return {name: value.numpy() for name, value in zip(self.names, found, strict=True)}


def both(model):
    """Predictions of a model and of its graph, on a batch of two odd pictures."""
    from mmplugins.deployment.graphs import OUTPUTS

    pixels = [example((75, 110), seed=k)[0].permute(1, 2, 0).byte().numpy() for k in range(2)]
    batch = [model.prepare(picture) for picture in pixels]
    expected = model.run([dict(one) for one in batch])
    graph = graph_of(model.runtime.model)
    runtime = ExportedRuntime(Eager(graph, OUTPUTS[graph.kind]), model.config)
    return runtime(batch), expected


@pytest.mark.parametrize("recipe", DETECTORS)
def test_detectors(recipe, load):
    for found, expected in zip(*both(load(recipe)), strict=True):
        assert len(expected) > 5 and len(found) == len(expected)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        if "mask" in recipe:
            for k in range(len(expected)):
                assert (found.mask(k) != expected.mask(k)).mean() < 1e-3


@pytest.mark.parametrize("recipe", SEGMENTORS)
def test_segmentors(recipe, load):
    for found, expected in zip(*both(load(recipe)), strict=True):
        assert len(np.unique(expected.label_map)) > 1
        assert (found.label_map != expected.label_map).mean() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (6, 6), (2, 3)])
@pytest.mark.parametrize("shape", [(6, 6), (7, 11), (3, 5), (24, 13)])
def test_adaptive_pooling_at_open_sizes(size, shape):
    x = torch.randn(2, 3, *shape)
    torch.testing.assert_close(OpenAdaptivePool(size)(x), nn.AdaptiveAvgPool2d(size)(x))


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("retinanet", {"test_cfg.nms.type": "soft_nms"}, r"'soft_nms'.* RetinaHead.*NonMaxSup"),
        ("retinanet", {"test_cfg.nms_pre": -1}, r"nms_pre=-1 of RetinaHead: expected a limit"),
        ("semantic_fpn", {"data_preprocessor.test_cfg": dict(size=(64, 64))}, "pads pictures to"),
        ("mask_rcnn", {"test_cfg.rcnn.max_per_img": -1}, r"max_per_img=-1 of StandardRoIHead"),
    ],
)
def test_what_has_no_standard_operator_is_named(recipe, options, message, load):
    with pytest.raises(ExportError, match=message):
        graph_of(load(recipe, **options).runtime.model)


def test_heads_that_decode_in_their_own_way_are_named(load):
    from mmdet.models.dense_heads import GFLHead

    model = load("retinanet").runtime.model
    model.bbox_head.__class__ = GFLHead
    with pytest.raises(ExportError, match="GFLHead has a _predict_by_feat_single of its own"):
        graph_of(model)
    with pytest.raises(ExportError, match="model of type Linear: expected a detector"):
        graph_of(nn.Linear(1, 1))
