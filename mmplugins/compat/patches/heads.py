"""Heads of mmdet that train and then fail in their first validation."""

from types import ModuleType

from .patch import patch


@patch(
    "mmdet.models.dense_heads.ssd_head",
    needed=lambda module: "loss_cls" not in vars(module.SSDHead),
)
def ssd_predicts(module: ModuleType) -> None:
    """``'SSDHead' object has no attribute 'loss_cls'``, after the first epoch.

    Dense heads ask their classification loss whether it has scores of its own. SSD computes its
    loss itself and has no such part.
    """
    module.SSDHead.loss_cls = None
