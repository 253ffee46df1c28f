"""Parameters of every detector and segmentor, recounted part by part and against the tables."""

from __future__ import annotations

import pytest
from config_tree import OWN, RECIPES, backbone_name, count, outline, parameters, read

from mmplugins.backbones.catalog import families

BODIES = {  # backbones without output norms, from the authors' definitions
    "poolformer_s12": 11_401_152,
    "poolformer_s24": 20_874_944,
    "poolformer_s36": 30_348_736,
    "poolformer_m36": 55_401_984,
    "poolformer_m48": 72_702_912,
    "poolformer_s12_ppaa": 16_535_592 - 513_000 - 1_024,  # of 1000 classes, and its last norm
    "identityformer_s12": 11_377_688,
    "poolformerv2_s12": 11_377_688,
    "randformer_s12": 11_612_986,
    "riformer_s12": 11_401_152 + 6_656,  # with the mixers of training
    "smlpnet_s": 47_787_600,
    "convformer_s18": 23_669_704,
    "convformer_s36": 36_907_408,
    "convformer_m36": 53_411_472,
    "caformer_s18": 23_236_912,
    "caformer_s36": 36_192_358,
    "caformer_m36": 52_564_710,
    "convnext_tiny": 27_818_592,
    "convnext_small": 49_453_152,
    "convnext_base": 87_564_416,
    "convnext_large": 196_227_264,
    "convnext_xlarge": 348_143_872,
}
RETINA_HEAD, RPN, SHARED_2FC, MASK_HEAD, FPN_HEAD = (
    6_463_220,
    593_935,
    14_306_705,
    2_643_280,
    1_643_158,
)

EXACT = {  # whole models, counted from the authors' released configs
    "poolformer/retinanet_poolformer-s12_fpn_1x_coco.py": 21_653_044,
    "poolformer/retinanet_poolformer-s24_fpn_1x_coco.py": 31_126_836,
    "poolformer/retinanet_poolformer-s36_fpn_1x_coco.py": 40_600_628,
    "poolformer/mask-rcnn_poolformer-s12_fpn_1x_coco.py": 31_570_608,
    "poolformer/mask-rcnn_poolformer-s24_fpn_1x_coco.py": 41_044_400,
    "poolformer/mask-rcnn_poolformer-s36_fpn_1x_coco.py": 50_518_192,
    "poolformer/semantic-fpn_poolformer-s12_40k_ade20k.py": 15_669_846,
    "poolformer/semantic-fpn_poolformer-s24_40k_ade20k.py": 25_143_638,
    "poolformer/semantic-fpn_poolformer-s36_40k_ade20k.py": 34_617_430,
    "poolformer/semantic-fpn_poolformer-m36_40k_ade20k.py": 59_778_006,
    "poolformer/semantic-fpn_poolformer-m48_40k_ade20k.py": 77_078_934,
}
MILLIONS = {  # ResNets with what is frozen, and without
    "resnet/retinanet_r18_fpn_1x_coco.py": (21.41, 21.25),
    "resnet/retinanet_r50_fpn_1x_coco.py": (37.97, 37.74),
    "resnet/retinanet_r101_fpn_1x_coco.py": (56.96, 56.74),
    "resnet/mask-rcnn_r18_fpn_1x_coco.py": (31.33, 31.17),
    "resnet/mask-rcnn_r50_fpn_1x_coco.py": (44.40, 44.17),
    "resnet/mask-rcnn_r101_fpn_1x_coco.py": (63.39, 63.16),
    "resnet/semantic-fpn_r18_40k_ade20k.py": (15.45, 15.45),
    "resnet/semantic-fpn_r50_40k_ade20k.py": (28.51, 28.51),
    "resnet/semantic-fpn_r101_40k_ade20k.py": (47.51, 47.51),
}


def conv(inside: int, outside: int, side: int, norm: bool = False) -> int:
    """A convolution with a bias, or with a batch norm in place of one."""
    return inside * outside * side**2 + (2 if norm else 1) * outside


def fpn(dims: list[int], extra: bool) -> int:
    """256 channels: one by one and three by three on each level, two more levels if extra."""
    levels = sum(conv(dim, 256, 1) + conv(256, 256, 3) for dim in dims)
    return levels + (conv(dims[-1], 256, 3) + conv(256, 256, 3) if extra else 0)


def cascade_box_head() -> int:
    """Four convolutions with norms, one linear layer, scores and boxes of 80 classes."""
    linear = 256 * 7 * 7 * 1024 + 1024
    return 4 * conv(256, 256, 3, norm=True) + linear + conv(1024, 81, 1) + conv(1024, 320, 1)


def upernet_heads(dims: list[int]) -> int:
    """Pyramid pooling at 1, 2, 3, 6; FPN of 512 channels; classifier; the auxiliary head."""
    pooling = 4 * conv(dims[3], 512, 1, True) + conv(dims[3] + 4 * 512, 512, 3, True)
    levels = sum(conv(dim, 512, 1, True) + conv(512, 512, 3, True) for dim in dims[:3])
    fused = conv(4 * 512, 512, 3, True) + conv(512, 150, 1)
    return pooling + levels + fused + conv(dims[2], 256, 3, True) + conv(256, 150, 1)


def expected(head: str, backbone: str) -> int:
    """Parameters of a whole model by the sums above."""
    family, _, arch = backbone.partition("_")
    dims = list(families()[family].variants[arch].dims)
    used = dims[1:] if head == "retinanet" else dims
    tail = {
        "retinanet": lambda: fpn(used, extra=True) + RETINA_HEAD,
        "mask-rcnn": lambda: fpn(used, extra=False) + RPN + SHARED_2FC + MASK_HEAD,
        "cascade-mask-rcnn": lambda: (
            fpn(used, extra=False) + RPN + 3 * (cascade_box_head() + MASK_HEAD)
        ),
        "semantic-fpn": lambda: fpn(used, extra=False) + FPN_HEAD,
        "upernet": lambda: upernet_heads(used),
        "linear": lambda: 2 * sum(dims) + conv(sum(dims), 150, 1),  # a batch norm, a classifier
        "linear-last": lambda: 2 * dims[-1] + conv(dims[-1], 150, 1),
    }[head]()
    return BODIES[backbone] + 2 * sum(used) + tail


@pytest.mark.parametrize("name", [n for n in (*OWN, *RECIPES) if not n.endswith("_shapes.py")])
def test_parameters_are_the_sum_of_the_parts(name):
    head = name.partition("/")[2].partition("_")[0]
    assert parameters(name) == expected(head, backbone_name(read(name)))


@pytest.mark.parametrize("name", EXACT)
def test_published_configs(name):
    assert parameters(name) == EXACT[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_resnets(name):
    model = outline(name)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (round(count(model) / 1e6, 2), round(trainable / 1e6, 2)) == MILLIONS[name]


def test_building_blocks_of_the_heads():
    dims = [64, 128, 320, 512]
    retinanet = outline("retinanet/retinanet_1x_coco.py")
    assert count(retinanet.neck) == fpn(dims[1:], extra=True) == 3_786_752
    assert count(retinanet.bbox_head) == RETINA_HEAD
    mask_rcnn = outline("mask_rcnn/mask-rcnn_1x_coco.py")
    assert count(mask_rcnn.neck) == fpn(dims, extra=False) == 2_623_488
    assert count(mask_rcnn.rpn_head) == RPN
    assert count(mask_rcnn.roi_head.bbox_head) == SHARED_2FC
    assert count(mask_rcnn.roi_head.mask_head) == MASK_HEAD
    segmentor = outline("semantic_fpn/semantic-fpn_40k_ade20k.py")
    assert count(segmentor.neck) == 2_623_488
    assert count(segmentor.decode_head) == FPN_HEAD
    cascade = outline("cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py")
    assert [count(head) for head in cascade.roi_head.bbox_head] == [cascade_box_head()] * 3
    assert [count(head) for head in cascade.roi_head.mask_head] == [MASK_HEAD] * 3
