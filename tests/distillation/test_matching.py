"""Which block imitates which, and what is said where none can."""

from __future__ import annotations

import pytest
from small_pairs import build, model_config

from mmplugins.distillation import DistillationError
from mmplugins.distillation.matching import blocks_by_stage, match_blocks, matched_depths


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        (2, 2, [(0, 0), (1, 1)]),
        (2, 3, [(0, 1), (1, 2)]),
        (6, 9, [(0, 1), (1, 2), (2, 4), (3, 5), (4, 7), (5, 8)]),
        (3, 2, [(1, 0), (2, 1)]),
        (1, 5, [(0, 4)]),
        (4, 8, [(0, 1), (1, 3), (2, 5), (3, 7)]),
    ],
)
def test_unequal_depths(student, teacher, pairs):
    assert matched_depths(student, teacher) == pairs


def models(**teacher):
    arch = dict(depths=(2, 1, 3, 1), dims=(8, 16, 24, 32))
    return (
        build("semantic-fpn", model_config("semantic-fpn", "RIFormer")),
        build("semantic-fpn", model_config("semantic-fpn", "PoolFormer", arch=arch, **teacher)),
    )


def test_pairs_by_stage():
    student, teacher = models()
    assert match_blocks(student, teacher, part="token_mixer") == [
        ("backbone.stages.0.blocks.0.token_mixer", "backbone.stages.0.blocks.1.token_mixer"),
        ("backbone.stages.1.blocks.0.token_mixer", "backbone.stages.1.blocks.0.token_mixer"),
        ("backbone.stages.2.blocks.0.token_mixer", "backbone.stages.2.blocks.1.token_mixer"),
        ("backbone.stages.2.blocks.1.token_mixer", "backbone.stages.2.blocks.2.token_mixer"),
        ("backbone.stages.3.blocks.0.token_mixer", "backbone.stages.3.blocks.0.token_mixer"),
    ]
    assert match_blocks(student, teacher, "last", stages=(2,)) == [
        ("backbone.stages.2.blocks.1", "backbone.stages.2.blocks.2")
    ]
    named = [("backbone.stages.0", "backbone.stages.0.blocks.0")]
    assert match_blocks(student, teacher, named) == named


def test_blocks_of_a_resnet():
    from mmdet.models import ResNet

    assert blocks_by_stage(ResNet(18))[2] == ["layer3.0", "layer3.1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(blocks="first"), "expected 'all', 'last' or a list"),
        (dict(stages=(4,)), "expected numbers from 0 to 3"),
        (dict(blocks=[]), "expected pairs"),
        (dict(blocks=[("backbone.stages.0",)]), "expected pairs"),
        (dict(blocks=[("backbone.stem", "backbone.stemm")]), "has no module backbone.stemm"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(DistillationError, match=message):
        match_blocks(*models(), **settings)


def test_both_lists_are_in_the_message():
    student, teacher = models(out_indices=(0, 1))
    with pytest.raises(DistillationError) as error:
        match_blocks(student, teacher)
    assert "student: RIFormer, stage 0: stages.0.blocks.0; stage 1:" in str(error.value)
    assert "teacher: PoolFormer, stage 0: stages.0.blocks.0, stages.0.blocks.1;" in str(error.value)


def test_a_backbone_without_token_mixers():
    student = build("semantic-fpn", model_config("semantic-fpn", "RIFormer"))
    settings = dict(arch=dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)))
    teacher = build("semantic-fpn", model_config("semantic-fpn", "ConvNeXt", **settings))
    with pytest.raises(DistillationError, match="its blocks have no token_mixer"):
        match_blocks(student, teacher, part="token_mixer")
    assert len(match_blocks(student, teacher)) == 5
