"""Every leaf config loads, is short, and builds its model."""

from __future__ import annotations

from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
LEAVES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.glob("*/*.py")
    if path.parent.name != "_base_"
)
COCO = "poolformer/retinanet_poolformer-{}_fpn_1x_coco.py"
MM_BASE = Path(mmdet.__file__).parent / ".mim/configs/_base_"


def build(cfg: Config) -> BaseModel:
    """The model without weights and without memory."""
    cfg.model.backbone.pop("init_cfg", None)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models, torch.device("meta"):
        return models.build(cfg.model)


def test_there_are_leaves():
    assert COCO.format("s12") in LEAVES


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaf(leaf):
    text = (CONFIGS / leaf).read_text().splitlines()
    assert len(text) <= 25
    assert text[0].startswith("# "), "the first line says what it is and what it follows"
    cfg = Config.fromfile(CONFIGS / leaf)
    assert cfg.custom_imports == dict(imports=["mmplugins"], allow_failed_imports=False)
    scope = cfg.default_scope
    for registry, name in (
        (DATASETS, cfg.train_dataloader.dataset.type),
        (DATASETS, cfg.test_dataloader.dataset.type),
        (METRICS, cfg.test_evaluator.type),
        *((HOOKS, hook.type) for hook in cfg.default_hooks.values()),
    ):
        with registry.switch_scope_and_registry(scope) as scoped:
            assert scoped.get(name) is not None, name
    assert sum(p.numel() for p in build(cfg).parameters()) > 0


@pytest.mark.parametrize(
    ("arch", "parameters"), [("s12", 21_653_044), ("s24", 31_126_836), ("s36", 40_600_628)]
)
def test_retinanet_poolformer_parameters(arch, parameters):
    """PoolFormer's Table 3 prints 21.7, 31.1 and 40.6 M; stride 4 has no norm, as in their runs."""
    model = build(Config.fromfile(CONFIGS / COCO.format(arch)))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("arch", ["s12", "s24", "s36"])
def test_retinanet_poolformer_recipe(arch):
    """The figures of the authors' released config."""
    cfg = Config.fromfile(CONFIGS / COCO.format(arch))
    assert cfg.optim_wrapper == dict(
        type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4)
    )
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end, warm_up.by_epoch) == (0.001, 500, False)
    assert (steps.milestones, steps.gamma, cfg.train_cfg.max_epochs) == ([8, 11], 0.1, 12)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    assert cfg.model.data_preprocessor.pad_size_divisor == 32
    backbone = dict(cfg.model.backbone)
    assert backbone.pop("init_cfg").checkpoint.endswith(f"/v1.0/poolformer_{arch}.pth.tar")
    assert backbone == dict(type="PoolFormer", arch=arch, out_indices=(1, 2, 3))


def test_retinanet_is_mmdets():
    """Head, losses, assignment and test settings are those of the reference model."""
    ours = Config.fromfile(CONFIGS / "_base_/models/retinanet.py").model
    theirs = Config.fromfile(MM_BASE / "models/retinanet_r50_fpn.py").model
    for part in ("data_preprocessor", "bbox_head", "train_cfg", "test_cfg"):
        assert ours[part] == theirs[part], part
    # They leave stride 4 out in the neck (start_level=1), we in the backbone (out_indices).
    neck = {k: v for k, v in theirs.neck.items() if k not in ("in_channels", "start_level")}
    assert ours.neck == neck and theirs.neck.start_level == ours.backbone.out_indices[0]


def test_every_parameter_of_the_demo_gets_a_gradient():
    """Distributed training stops at a parameter without one."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    cfg = Config.fromfile(CONFIGS / "poolformer/retinanet_poolformer-s12_fpn_shapes.py")
    with MODELS.switch_scope_and_registry("mmdet") as models:
        model = models.build(cfg.model).train()
    box = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))
    sample = DetDataSample(gt_instances=box, metainfo=dict(img_shape=(64, 64)))
    sample.set_metainfo(dict(pad_shape=(64, 64), batch_input_shape=(64, 64)))
    losses = model(torch.randn(1, 3, 64, 64), [sample], mode="loss")
    model.parse_losses(losses)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
