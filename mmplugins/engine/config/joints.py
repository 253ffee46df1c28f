"""Where models beside the usual neck take a backbone's channels, and which recipes cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import ConfigDict

from mmplugins.utils import listed, type_name

from .fitting import index_of
from .outline import Maps, first_neck, heads_by_index
from .settings import SettingError

WHOLE_NETWORKS = ("PIDHead", "DDRHead", "DPTHead", "SideAdapterCLIPHead", "VPDDepthHead")
"""Heads of mmseg that take more from their own backbone than a pyramid of maps."""

ONE_MAP_NECKS = ("CTResNetNeck",)
"""Necks of mmdet that look at the last map alone, however many there are."""

NECKS_THAT_LEAVE_MAPS = ("NASFCOS_FPN",)
"""Necks that count on four maps and use some for their size only: distributed training must look
for parameters without a gradient, since the norms of those maps get none."""


def refuse_what_cannot_serve(part: Mapping[str, Any]) -> None:
    """Stop at a recipe whose other parts need its own backbone, with the reason.

    Raises:
        SettingError: If there is such a part.
    """
    old, neck, roi = part["backbone"], first_neck(part) or {}, part.get("roi_head") or {}
    reason = None
    if isinstance(roi, Mapping) and roi.get("shared_head"):
        reason = (
            f"roi_head.shared_head={type_name(roi['shared_head'])} is the last stage of its "
            "ResNet, run on each region: take a recipe with an FPN, or a DC5 one"
        )
    elif "rfp_backbone" in neck:
        reason = (
            f"neck={type_name(neck)} feeds its maps back into backbones of its own "
            "(rfp_backbone), which must be DetectoRS_ResNet: take the recipe with an FPN"
        )
    elif "backbone_cfg" in old:
        reason = (
            f"backbone={type_name(old)} is the whole two-path network around another backbone "
            "(backbone_cfg), and its heads take maps that only it has"
        )
    for head in listed(part.get("decode_head")):
        if type_name(head) in WHOLE_NETWORKS:
            reason = (
                f"decode_head={type_name(head)} takes more from {type_name(old)} than a pyramid "
                "of maps: its branches, or the tokens of a plain transformer"
            )
    if reason:
        raise SettingError(f"this recipe works with its own backbone only: {reason}")


def takes_last_map(part: Mapping[str, Any]) -> bool:
    """Whether the backbone's last map is all that the neck looks at."""
    return type_name(first_neck(part) or {"type": ""}) in ONE_MAP_NECKS


def takes_without_neck(part: Mapping[str, Any]) -> bool:
    """Whether a model of mmdet has a place for channels though it has no neck."""
    return bool(_panoptic_head(part) or isinstance(part.get("rpn_head"), Mapping))


def connect_without_neck(part: Mapping[str, Any], maps: Maps) -> None:
    """Write channels where detectors without a neck have them.

    MaskFormer and Mask2Former take a whole pyramid. A R-CNN without an FPN takes one map, with its
    RPN and with the extractor of its regions.

    Raises:
        SettingError: If an R-CNN would get more than one map.
    """
    if head := _panoptic_head(part):
        head["in_channels"] = list(maps.channels)
        return
    if len(maps.channels) != 1:
        raise SettingError(
            f"rpn_head takes one map where there is no neck, and the backbone puts out {maps}: set "
            "out_indices to one stage"
        )
    (channels,) = maps.channels
    part["rpn_head"]["in_channels"] = channels
    roi = part.get("roi_head") or {}
    for name in ("bbox_roi_extractor", "mask_roi_extractor"):
        if roi.get(name):
            roi[name]["out_channels"] = channels
    for name in ("bbox_head", "mask_head"):
        if roi.get(name):
            roi[name]["in_channels"] = channels


def connect_ssd(part: ConfigDict, neck: ConfigDict, maps: Maps) -> None:
    """SSD hands the backbone's maps on as they are: neck and head name their channels, too."""
    count = len(maps.channels)
    neck["in_channels"] = maps.channels
    for owner, key in ((neck, "out_channels"), (part["bbox_head"], "in_channels")):
        owner[key] = (*maps.channels, *owner[key][count:])


def connect_heads_around(part: ConfigDict, neck: ConfigDict, maps: Maps) -> None:
    """Write channels where heads look at maps that a JPU has passed on as they came."""
    passed = maps.channels[neck.get("start_level", 0) : -1]
    for _, head in heads_by_index(part):
        index = index_of(head)
        if isinstance(index, int) and (place := index % (len(passed) + 1)) < len(passed):
            head["in_channels"] = passed[place]


def leave_out_idle_maps(part: ConfigDict) -> None:
    """EncNet without lateral connections is given three maps and looks at the last of them."""
    for _, head in heads_by_index(part):
        index = index_of(head)
        if type_name(head) == "EncHead" and not head.get("add_lateral") and isinstance(index, list):
            head["in_index"] = index[-1:]
            head["in_channels"] = list(head["in_channels"])[-1:]


def pyramids_have(strides: Sequence[int]) -> bool:
    """Whether a backbone of four stages can put out maps of these strides, dilated or not."""
    for coarsest in (32, 16, 8):
        own = iter(min(stride, coarsest) for stride in (4, 8, 16, 32))
        if all(stride in own for stride in strides):  # one after the other
            return True
    return False


def _panoptic_head(part: Mapping[str, Any]) -> Any:
    head = part.get("panoptic_head")
    found = isinstance(head, Mapping) and isinstance(head.get("in_channels"), list | tuple)
    return head if found else None
