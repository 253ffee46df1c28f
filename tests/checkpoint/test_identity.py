import pytest
import torch
import written_layouts as written
from small_models import meta

from mmplugins.checkpoint import (
    identify,
)


@pytest.mark.parametrize(
    "name",
    ["poolformer_s12_ppaa", "caformer_s18", "randformer_s12", "smlpnet_t", "convnext_tiny"],
)
def test_identity_of_published_backbones(name):
    identity = identify(meta(name).state_dict())
    assert (identity.backbone, identity.layout, identity.exact) == (name, "mmplugins", True)


def test_identity_names_those_that_share_all_tensors():
    identity = identify(meta("poolformerv2_s12").state_dict())
    assert {identity.backbone, *identity.same_as} == {"poolformerv2_s12", "identityformer_s12"}


def test_identity_of_foreign_files():
    s12 = dict(depths=(2, 2, 6, 2), dims=(64, 128, 320, 512))
    writer = written.poolformer_official(**s12, form="mmpretrain", mixer_of_block="affine")
    identity = identify({f"backbone.{k}": v for k, v in writer.state_dict.items()})
    assert identity.backbone == "riformer_s12" and identity.exact
    assert (identity.layout, identity.prefix) == ("mmpretrain", "backbone.")
    assert identify({"fc.weight": torch.ones(2)}) is None
