"""mmseg's recipes for maps of stride 8 take any backbone: composed, built, trained for a step."""

from __future__ import annotations

import pytest
from mmengine.registry import MODELS, init_default_scope
from recipes import TINY, learnt_segmentor, without_gradient

from mmplugins.engine import SettingError, compose

RECIPES = (
    "mmseg::fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py",
    "mmseg::pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py",
    "mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-20k_voc12aug-512x512.py",
    "mmseg::ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py",
    "mmseg::isanet/isanet_r50-d8_4xb4-20k_voc12aug-512x512.py",
    "mmseg::encnet/encnet_r101-d8_4xb2-40k_cityscapes-512x1024.py",
)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda name: name.split("/")[0][7:])
def test_strides_4_8_8_8(recipe):
    cfg = compose(recipe, TINY)
    assert cfg.model.backbone.output_stride == 8
    model = learnt_segmentor(cfg)
    finest = (4,) if "deeplabv3plus" in recipe else ()
    assert model.backbone.out_strides == (*finest, 8, 8), "of what heads take"
    assert without_gradient(model) == []


def test_timms_models_dilate_too():
    cfg = compose(RECIPES[0], "timm/resnet18")
    assert cfg.model.backbone.output_stride == 8
    init_default_scope("mmseg")
    assert MODELS.build(cfg.model.backbone).out_strides == (4, 8, 8, 8)
    with pytest.raises(SettingError, match="has no output_stride=8"):
        compose(RECIPES[0], "timm/swin_tiny_patch4_window7_224")
