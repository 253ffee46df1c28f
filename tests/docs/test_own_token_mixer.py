"""The guide to an own token mixer does what it says: its code trains a detector and a segmentor."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData

from mmplugins.backbones import TOKEN_MIXERS, PoolFormer

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "own_token_mixer.md").read_text()
MIXER, RETINANET, SEMANTIC_FPN = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
SIZE = (64, 96)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Save the guide's mixer and one of its configs as it says, and build the model."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(TOKEN_MIXERS.module_dict, "StripConv", raising=False)
    monkeypatch.delitem(sys.modules, "my_mixer", raising=False)
    (tmp_path / "my_mixer.py").write_text(MIXER)
    (tmp_path / "configs").symlink_to(ROOT / "configs")

    def read(text):
        (tmp_path / "mine.py").write_text(text)
        return Config.fromfile(tmp_path / "mine.py")

    def build(text):
        config = read(text)
        config.model.backbone.init_cfg = None  # no download
        if "size" in config.model.data_preprocessor:
            config.model.data_preprocessor.size = SIZE  # mmseg would pad to its crop of 512
        with MODELS.switch_scope_and_registry(config.default_scope) as models:
            model = models.build(config.model).train()
        return revert_sync_batchnorm(model)  # it would ask for a GPU

    build.config = read
    return build


def boxes(samples):
    from mmdet.structures import DetDataSample

    for size in samples:
        sample = DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, scale_factor=(1, 1)))
        corners = torch.tensor([[4.0, 6.0, 40.0, 50.0]])
        sample.gt_instances = InstanceData(bboxes=corners, labels=torch.tensor([3]))
        yield sample


def masks(samples):
    from mmseg.structures import SegDataSample

    for size in samples:
        sample = SegDataSample(metainfo=dict(img_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, *size)))
        yield sample


def test_the_mixer_is_short():
    assert len([line for line in MIXER.splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize(("text", "annotate"), [(RETINANET, boxes), (SEMANTIC_FPN, masks)])
def test_one_training_step(text, annotate, build):
    model = build(text)
    mixers = [stage.blocks[0].token_mixer for stage in model.backbone.stages]
    assert [type(m).__name__ for m in mixers] == ["Pooling", "Pooling", "StripConv", "StripConv"]
    assert mixers[2].row.kernel_size == (1, 11)

    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sizes = [SIZE, SIZE]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    data = dict(inputs=images, data_samples=list(annotate(sizes)))
    losses = model.train_step(data, optimizer)
    assert all(value.isfinite().all() for value in losses.values())
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    strips = {n for n in before if "token_mixer" in n}
    assert len(strips) == 4 * (6 + 2)
    assert strips <= changed


def test_pretrained_weights_fill_all_but_the_mixers(build, tmp_path):
    """As the guide's RetinaNet asks for them; here from a file, with few blocks."""
    config = build.config(RETINANET).model.backbone
    config.arch = dict(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    kept = PoolFormer(dict(config.arch)).state_dict()
    config.init_cfg.checkpoint = str(tmp_path / "poolformer.pth")
    torch.save(kept, config.init_cfg.checkpoint)
    backbone = MODELS.build(config)
    backbone.init_weights()
    loaded = backbone.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in loaded.items() if key in kept)
    assert {key.split(".")[4] for key in loaded.keys() - kept.keys()} == {"token_mixer"}
