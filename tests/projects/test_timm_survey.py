"""The survey of timm's models: how each serves, and the page."""

import pytest
from programs import load


@pytest.fixture(scope="module")
def survey():
    return load("projects/timm_models/survey.py")


def test_models_are_sorted_by_what_they_take(survey, tmp_path):
    names = ["test_resnet", "test_maxvit", "test_vit_relpos", "test_vit", "levit_128s"]
    out, page = tmp_path / "r.jsonl", tmp_path / "page.md"
    results = survey.main([*names, "--out", str(out), "--table", str(page)])
    kinds = {result["name"]: survey.how(result) for result in results}
    assert kinds == {
        "test_resnet": "any size",
        "test_vit": "any size",
        "test_maxvit": "multiples",
        "test_vit_relpos": "one size",
        "levit_128s": "one size",
    }
    lines = out.read_text().splitlines()
    survey.main([*names, "--out", str(out), "--table", str(page)])
    assert out.read_text().splitlines() == lines  # nothing is tried twice
    assert "5 models of timm" in page.read_text() and "5 work (100.0 %)" in page.read_text()


def test_what_has_no_pyramid_is_not_counted(survey):
    refused = dict(name="a", module="m", refusal="timm model 'a' takes none of the image sizes")
    flat = dict(name="b", module="m", refusal="timm model 'b' has feature maps of stride 14 only")
    assert (survey.how(refused), survey.how(flat)) == ("refused", "no pyramid")
    page = survey.table([refused, flat], 9)
    assert "2 of the 9 models" in page and "0 work (0.0 %)" in page
    assert "`a`: timm model 'a' takes none" in page
