"""Rows in other runtimes: a row's network exported and loaded again, or an exported file as it is.

A row is exported as :func:`.whole_models.run_network` runs it: normalised pictures in, the raw
outputs of the heads out, so that it stands beside its eager form. Only proposals are other: a graph
has a fixed number of them, what is missing filled up. An exported file is run as it is, with
normalisation, decoding and suppression.
"""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from mmplugins.deployment.dense_decoding import DenseDecoder
from mmplugins.deployment.exporting import export_graph
from mmplugins.deployment.graphs import example
from mmplugins.deployment.open_sizes import open_sizes
from mmplugins.deployment.quantizing import quantize_file
from mmplugins.deployment.region_decoding import RegionDecoder
from mmplugins.deployment.runtime import Exported, load_exported

from .complexity import MASK_REGIONS
from .rows import Row

_ABOUT = dict(task="network", kind="network", classes=[], config="")


def load_file(row: Row) -> Exported:
    """The exported file of a row, in its runtime, with as many threads as PyTorch has.

    Raises:
        ExportError: If it cannot be loaded; an absent runtime is named with what to install.
    """
    return _loaded(row, Path(row.name))


def export_row(row: Row, model: nn.Module) -> Exported:
    """A row's model in its runtime, by files that are gone afterwards.

    Args:
        row: With a runtime.
        model: Folded, in eval mode, on the CPU. It stays as it is.

    Raises:
        ExportError: If it cannot be exported, or a package is not installed.
    """
    model = copy.deepcopy(model)
    network = Network(model).eval() if row.whole else model
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if row.runtime == "onnxruntime":
            return _loaded(row, export_graph(network, folder / "row.onnx", _ABOUT))
        path = export_graph(network, folder / "row.xml", _ABOUT, "openvino")
        if row.int8:  # the time does not depend on what it is calibrated with
            made_up = [example((256, 320), seed=k).numpy() / 64 - 2 for k in range(4)]
            path = quantize_file(path, folder / "int8.xml", made_up)
        return _loaded(row, path)


def _loaded(row: Row, path: Path) -> Exported:
    precision = "bf16" if row.bf16 else "float32"
    return load_exported(path, threads=torch.get_num_threads(), precision=precision)


class Network(nn.Module):
    """A detector or segmentor as :func:`.whole_models.run_network` runs it, in tensors alone.

    Args:
        model: In eval mode; modules that bake sizes in are replaced in it.

    Raises:
        ExportError: If its regions are found in a way that cannot be exported.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        open_sizes(model)
        self.model = model
        self.propose: DenseDecoder | None = None
        self.regions: RegionDecoder | None = None
        if isinstance(getattr(model, "roi_head", None), nn.Module):
            self.propose = DenseDecoder(model.rpn_head, model.test_cfg.rpn, by_level=True)
            self.regions = RegionDecoder(model.roi_head, model.test_cfg.rcnn)

    def forward(self, images: Tensor) -> Any:
        """Raw outputs for normalised pictures ``[N, 3, H, W]``."""
        maps = self.model.extract_feat(images)
        if self.propose is None or self.regions is None:
            head = getattr(self.model, "bbox_head", None) or self.model.decode_head
            return head(maps)
        boxes, _, _ = self.propose(maps, images.shape[-2:])
        _, logits, deltas = self.regions.classified(maps, boxes, images.shape[-2:])
        if not self.regions.masks:
            return logits, deltas
        number, count = boxes.shape[:2]
        image = torch.arange(number)[:, None, None].expand(-1, count, 1).to(boxes.dtype)
        regions = torch.cat([image, boxes], 2)[:, :MASK_REGIONS].reshape(-1, 5)
        return logits, deltas, self.regions.mask_logits(maps, regions)
