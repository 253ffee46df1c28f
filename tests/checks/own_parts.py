"""Parts that users write themselves, as mmengine allows: named in configs by their class."""

from __future__ import annotations

from mmdet.datasets import CocoDataset
from mmdet.models import FPN, RetinaNet
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.runner import EpochBasedTrainLoop
from mmseg.models.decode_heads import FCNHead, FPNHead
from torch import nn


class OwnHook(Hook):
    """Takes its arguments by name alone."""

    def __init__(self, interval=1, **others):
        self.settings = dict(others, interval=interval)


class RareSaving(CheckpointHook):
    def __init__(self, interval=2, **others):
        super().__init__(interval, **others)


class OwnLoop(EpochBasedTrainLoop):
    """Names its length as nobody else does."""

    def __init__(self, runner, dataloader, passes):
        super().__init__(runner, dataloader, max_epochs=passes)


class OwnNeck(FPN):
    """``in_channels`` are those of its own hidden maps."""

    def __init__(self, in_channels, widths, **others):
        super().__init__(in_channels=widths, **others)
        self.hidden = in_channels


class OwnHead(FPNHead):
    """``in_channels`` are those of each of four maps."""

    def __init__(self, in_channels, **others):
        super().__init__(in_channels=[in_channels] * 4, **others)


class BorderHead(FCNHead):
    """Learns what is border and what is not, two classes whatever the data has."""

    def loss_by_feat(self, seg_logits, batch_data_samples):
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        border = (labels != labels.roll(1, -1)).long()
        size = seg_logits.shape[-2:]
        few = nn.functional.interpolate(border[:, None].float(), size).squeeze(1).long()
        return dict(loss_border=nn.functional.cross_entropy(seg_logits, few))


class ColourHead(nn.Module):
    """Has classes of its own, and an idle weight."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes


class RetinaNetOfColours(RetinaNet):
    def __init__(self, colour_head, **others):
        super().__init__(**others)
        self.colours = colour_head


class TwoOptimisers:
    """A constructor of optimisers: one for the backbone, one for the rest."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.parts = optim_wrapper_cfg

    def __call__(self, model):
        owners = dict(backbone=model.backbone, rest=nn.ModuleList([model.neck, model.bbox_head]))
        return OptimWrapperDict(
            **{name: build_optim_wrapper(owners[name], part) for name, part in self.parts.items()}
        )


class RetinaNetOfTwo(RetinaNet):
    """Steps two optimisers, as mmengine asks of whoever has several."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        losses, logged = self.parse_losses(self._run_forward(data, mode="loss"))
        losses.backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return logged


class ThingsAndStuff(CocoDataset):
    """Reads files of another form, as mmdet's panoptic data sets do."""

    METAINFO = dict(classes=tuple(f"class {k}" for k in range(7)))

    def parse_data_info(self, raw_data_info):
        raise NotImplementedError


class ClassesFromAFile(CocoDataset):
    """Reads the names of its classes when it is built, as mmdet's V3Det does."""

    METAINFO = dict(classes=None)
