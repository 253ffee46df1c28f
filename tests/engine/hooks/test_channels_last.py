from types import SimpleNamespace

import torch
from torch import nn

from mmplugins.backbones import build_backbone
from mmplugins.deployment import reparameterize
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


def test_logits_that_are_trained_lie_in_planes():
    """For log-softmax, which is slow over channels that lie last."""
    from mmseg.models.decode_heads import FPNHead

    settings = dict(in_channels=[8, 8], in_index=[0, 1], feature_strides=[4, 8], channels=8)
    head = FPNHead(**settings, num_classes=5, dropout_ratio=0.0)
    model = nn.ModuleDict(dict(decode_head=head))
    maps = [torch.randn(2, 8, side, side, requires_grad=True) for side in (16, 8)]
    expected = head(maps)
    hook, runner = ChannelsLastHook(), SimpleNamespace(model=model)
    hook.before_run(runner)
    hook.before_run(runner)  # as training and the test after it do

    for training in (True, False):
        head.train(training)
        logits = head(maps)
        last = logits.is_contiguous(memory_format=torch.channels_last)
        assert (logits.is_contiguous(), last) == (training, not training)
    assert len(head.conv_seg._forward_hooks) == 1
    head.train()
    torch.testing.assert_close(head(maps), expected, rtol=1e-4, atol=1e-5)
    head(maps).sum().backward()
    assert maps[0].grad.abs().sum() > 0


def test_also_after_folding():
    backbone = build_backbone("convformer_s18").eval()
    runner, hook = SimpleNamespace(model=backbone), ChannelsLastHook()
    hook.before_run(runner)
    reparameterize(backbone)
    hook.before_test(runner)
    weights = [p for p in backbone.parameters() if p.ndim == 4]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
