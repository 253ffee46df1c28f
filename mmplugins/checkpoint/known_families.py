"""Names of families that the suite has no class for, told by keys, for errors to say them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SIGNS = {  # the first that fits counts; each is looked for after any dot
    "Vision Transformer with registers (DINOv2, DINOv3)": (
        r"(storage_tokens|register_tokens|reg_token|rope_embed\.periods)$"
    ),
    "ConvNeXt V2": r"\d+\.(mlp\.)?grn\.(gamma|beta|weight)$",
    "Swin Transformer": r"relative_position_bias_table$",
    "SAM's image encoder": r"blocks\.0\.attn\.rel_pos_h$",
    "MaxViT": r"(grid_attention|attn_grid)\.",
    "EVA": r"blocks\.0\.attn\.(q_bias|inner_attn_ln\.weight)$",
    "Vision Transformer": r"(cls_token|blocks\.0\.attn\.qkv\.weight|layer\.0\.attention\..*weight|"
    r"encoder_layer_0\.self_attention\.in_proj_weight)$",
    "PVT": r"block1\.0\.attn\.(q|sr)\.(weight|bias)$",
    "SegFormer's MiT": r"(block1\.0\.mlp\.dwconv\.dwconv|layers\.0\.1\.0\.attn\.attn\.in_proj)",
    "HRNet": r"stage2\.0\.branches\.0\.",
    "EfficientNet": r"(_blocks\.0\._depthwise_conv|blocks\.0\.0\.conv_dw|"
    r"features\.1\.0\.block\.1\.(0|fc1))\.weight$",
    "MobileNet": r"(features\.1\.conv\.0\.0|features\.1\.block\.0\.0|layer1\.0\.conv\.0\.conv)"
    r"\.weight$",
    "RegNet": r"(trunk_output|s1\.b1\.conv1)",
    "DenseNet": r"denseblock1\.denselayer1\.",
    "ResNet": r"(layer1\.0\.(conv1|0)|res2\.0\.conv1)\.weight$",
    "VGG": r"features\.0\.weight$",
    "CSPDarknet or YOLO": r"(dark2\.|stage1\.0\.conv\.weight|model\.0\.conv\.weight)",
    "DETR": r"transformer\.(encoder|decoder)\.layers\.0\.",
}


def family_of_keys(keys: Iterable[str]) -> str | None:
    """The family of a state dict, ``'ResNet'`` for example, or None.

    Args:
        keys: Of a state dict, with any prefix.
    """
    keys = list(keys)
    for name, sign in _SIGNS.items():
        pattern = re.compile(rf"(^|\.)({sign})")
        if any(pattern.search(key) for key in keys):
            return name
    return None
