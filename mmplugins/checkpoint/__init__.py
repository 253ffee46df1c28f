"""Weights: where they come from, whose layout they are in, whether they loaded, that they are safe.

Importing this package registers ``timm://`` and ``metaformer://`` with mmengine's checkpoint
loader, and the initialiser behind ``init_cfg=dict(type='Pretrained', ...)``.
"""

from .archives import refuse_shards
from .converting import Conversion, convert
from .identity import Identity, identify
from .loading import PretrainedWithReport, check_weights, load_weights
from .payload import Weights, find_weights
from .reading import (
    CheckpointError,
    UnsafeCheckpointError,
    check_checksums,
    check_tensors,
    read_checkpoint,
)
from .report import MatchReport, MismatchError
from .sources import load_source, resolve
from .writing import save_weights
from .zoo import PublishedWeights, published

__all__ = [
    "CheckpointError",
    "Conversion",
    "Identity",
    "MatchReport",
    "MismatchError",
    "PretrainedWithReport",
    "PublishedWeights",
    "UnsafeCheckpointError",
    "Weights",
    "check_checksums",
    "check_tensors",
    "check_weights",
    "convert",
    "find_weights",
    "identify",
    "load_source",
    "load_weights",
    "published",
    "read_checkpoint",
    "refuse_shards",
    "resolve",
    "save_weights",
]
