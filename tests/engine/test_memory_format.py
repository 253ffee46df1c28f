from types import SimpleNamespace

import torch
from torch import nn

from mmplugins.backbones import build_backbone
from mmplugins.engine import ChannelsLastHook


def test_all_maps_are_channels_last_and_values_stay():
    torch.manual_seed(0)
    backbone = build_backbone("poolformer_s12").eval()
    images = torch.randn(2, 3, 64, 96)
    expected = backbone(images)
    layouts = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _module, _args, out: layouts.append(
                    out.is_contiguous(memory_format=torch.channels_last)
                )
            )

    ChannelsLastHook().before_run(SimpleNamespace(model=backbone))

    for ours, theirs in zip(backbone(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert len(layouts) == 28 and all(layouts)
