"""Why weights do not fit a backbone, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from mmplugins.backbones.catalog import families
from mmplugins.backbones.deploy_state import MARK, is_deployed
from mmplugins.backbones.pyramid import PyramidBackbone

from .identity import identify
from .report import MatchReport

_SIGNS = {  # the first that fits counts; each is looked for after any dot
    "Vision Transformer with registers (DINOv2, DINOv3)": (
        r"(storage_tokens|register_tokens|reg_token|rope_embed\.periods)$"
    ),
    "ConvNeXt V2": r"\d+\.(mlp\.)?grn\.(gamma|beta|weight)$",
    "EdgeNeXt": r"stages\.1\.blocks\.\d+\.xca\.",
    "InceptionNeXt": r"token_mixer\.dwconv_hw\.",
    "ConvNeXt": r"(stages\.0\.blocks\.0\.conv_dw|features\.1\.0\.block\.0|"
    r"stages\.0\.(0|layers\.0)\.(dwconv|depthwise_conv))\.weight$",
    "GCViT": r"global_block\.",
    "MaxViT": r"(grid_attention|attn_grid)\.",
    "CoAtNet": r"stages\.\d\.blocks\.\d+\.attn\.rel_pos\.",
    "BEiT": r"(?<!layers\.\d\.)blocks\.0\.attn\.relative_position_bias_table$",
    "Swin Transformer": r"(relative_position_bias_table|meta_mlp\.fc1\.weight|"
    r"(cpb|continuous_position_bias)_mlp\.0\.weight)$",
    "MViT": r"stages\.0\.blocks\.0\.attn\.rel_pos_h$",
    "SAM's image encoder": r"blocks\.0\.attn\.rel_pos_h$",
    "EVA": r"blocks\.0\.attn\.(q_bias|inner_attn_ln\.weight)$",
    "TNT": r"pixel_embed\.proj\.",
    "Hiera": r"(blocks\.[1-9]\.proj|stages\.0\.layers\.0\.attn\.qkv)\.weight$",
    "EfficientViT": r"(context_module\.|mixer\.m\.attn\.dws)",
    "EfficientFormer": r"(token_mixer\.attention_bias|mlp\.mid\.conv\.weight)",
    "TinyViT": r"blocks\.0\.local_conv\.",
    "LeViT": r"(module\.attention_biases|blocks\.0\.attn\.attention_bias)",
    "PVT": r"(block1\.0\.attn\.(q|sr)|stages\.0\.blocks\.0\.attn\.sr|"
    r"layers\.0\.blocks\.0\.attention\.query)\.weight$",
    "Vision Transformer": r"(cls_token|blocks\.0\.attn\.qkv\.weight|"
    r"layer\.0\.attention\..*weight|encoder_layer_0\.self_attention\.in_proj_weight|"
    r"layers\.0\.self_attn\.q_proj\.weight)$",
    "SegFormer's MiT": r"(block1\.0\.mlp\.dwconv\.dwconv|layers\.0\.1\.0\.attn\.attn\.in_proj|"
    r"blocks\.0\.attention\.sequence_reduction)",
    "HRNet": r"stage2\.0\.branches\.0\.",
    "GhostNet": r"ghost1\.primary_conv\.0\.weight$",
    "MobileNet": r"((features\.1\.conv|features\.1\.block|layer1\.0\.conv)\.0\.(0|conv)\.weight|"
    r"layer\.0\.conv_3x3\.convolution\.weight|conv_head\.bias)$",
    "EfficientNet": r"(_blocks\.0\._depthwise_conv|blocks\.\d\.0\.conv_(dw|exp)|"
    r"features\.1\.0\.block\.(0\.0|1\.0|1\.fc1)|blocks\.0\.depthwise_conv\.depthwise_conv)"
    r"\.weight$",
    "RegNet": r"(trunk_output|s1\.b1\.conv1|stages\.0\.layers\.0\.layer\.2\.attention\.0)",
    "DenseNet": r"denseblock1\.denselayer1\.",
    "Res2Net": r"layer1\.0\.convs\.0\.weight$",
    "ResNeSt": r"layer1\.0\.conv2\.fc1\.weight$",
    "ResNet": r"(layer1\.0\.(conv1|0)|res2\.0\.conv1|stages\.0\.(blocks|layers)\.0\.conv1|"
    r"stages\.0\.layers\.0\.layer\.0\.convolution)\.weight$",
    "FocalNet": r"modulation\.(f|projection_in)\.weight$",
    "DaViT": r"blocks\.0\.0\.(spatial_block\.)?cpe1\.",
    "FastViT": r"token_mixer\.mixer\.conv_scale\.",
    "RepViT": r"channel_mixer\.conv1\.",
    "SwiftFormer": r"local_representation\.",
    "HGNet": r"stages\.0\.blocks\.0\.layers\.0\.(conv|convolution)\.weight$",
    "VoVNet": r"stages\.0\.blocks\.0\.conv_concat\.",
    "RepVGG": r"(stages\.0\.0\.conv_kxk\.conv|stage1\.0\.rbr_dense\.conv)\.weight$",
    "DLA": r"level\d\.tree1\.",
    "SqueezeNet": r"features\.\d+\.squeeze\.weight$",
    "ShuffleNet": r"stage2\.0\.branch1\.0\.weight$",
    "MNASNet": r"layers\.8\.0\.layers\.0\.weight$",
    "GoogLeNet": r"inception3a\.branch1\.",
    "Inception": r"Mixed_5b\.branch1x1\.",
    "VGG": r"features\.(1[1-9]|2\d)\.weight$",
    "AlexNet": r"features\.0\.weight$",
    "CSPDarknet or YOLO": r"(dark2\.|(stage1\.0|model\.0|stages\.0\.blocks\.0\.conv1)\.conv\."
    r"weight)",
    "DETR": r"transformer\.(encoder|decoder)\.layers\.0\.",
}


def likely_cause(model: PyramidBackbone, tensors: Mapping[str, Tensor], report: MatchReport) -> str:
    """Say in a sentence why weights do not fit a backbone.

    Args:
        model: The backbone.
        tensors: The weights.
        report: How they meet.
    """
    if MARK in tensors and not is_deployed(model):
        return (
            "the file holds the deployed form of a model, which cannot be undone; call eval() and "
            "switch_to_deploy() on the backbone before loading"
        )
    mixers = [key for key in report.missing if ".token_mixer." in key]
    if mixers and mixers == report.missing and not (report.unexpected or report.mismatched):
        return (
            "only token mixers are missing: the file holds a deployed form (build the model with "
            "deploy=True) or a network without these mixers, from which a student may start with "
            "strict=False"
        )
    held = identify(tensors)
    if held is None or held.share < 0.5:
        wrong = len(report.missing) + len(report.unexpected) + len(report.mismatched)
        if len(report.matched) > wrong:
            return (
                "the same architecture built with other arguments (depths, dims, in_channels, "
                "token mixers ...), or a part of the file"
            )
        starts = sorted({key.split(".")[0] for key in tensors})[:6]
        family = family_of_keys(tensors)
        if family and family == _family_of(model):
            return f"another {family} than the model's, {getattr(model, 'model_name', '')}".rstrip(
                ", "
            )
        if family:
            article = "an" if family[0] in "AEI" else "a"
            return (
                f"wrong family: the file holds {article} {family}, the model is {_name_of(model)}; "
                "timm's models of other families are timm/NAME (timm.list_models() has the names)"
            )
        return (
            "wrong architecture: no backbone of the suite has such weights (their keys begin with "
            f"{', '.join(starts)})"
        )
    family = next((name for name, cls in families().items() if type(model) is cls), None)
    own = identify(model.state_dict(), only=family) if family else None
    names = (held.backbone, *held.same_as)
    same = next((name for name in names if name.startswith(f"{family}_")), None)
    degree = "holds" if held.exact else "resembles"
    if family is None:
        kinds = " or ".join(names)
        return f"the file {degree} {kinds}, the model is {_name_of(model)}"
    if same is None:
        name = own.backbone if own else type(model).__name__
        return f"wrong family: the file {degree} {' or '.join(names)}, the model is {name}"
    if own is not None and same not in (own.backbone, *own.same_as):
        arch = same.removeprefix(f"{family}_")
        return (
            f"wrong variant: the file {degree} {same}, the model is {own.backbone}; build it with "
            f"arch={arch!r} or take the weights of {own.backbone}"
        )
    what = same or held.backbone
    if held.exact:
        return f"the file holds all of {what}; the model was built with other arguments"
    return f"the file holds a part of {what} only, or was changed"


def _name_of(model: PyramidBackbone) -> str:
    name = getattr(model, "model_name", None)
    return f"timm's {name}" if name else f"a {type(model).__name__}"


def _family_of(model: PyramidBackbone) -> str | None:
    """The family of a backbone.

    A MobileNet is told by its name, because timm's has the module names of its EfficientNet.
    """
    if getattr(model, "model_name", "").startswith("mobilenet"):
        return "MobileNet"
    own = type(model).__name__
    return own if own in _SIGNS else family_of_keys(model.state_dict())


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
