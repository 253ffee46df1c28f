import pytest

from mmplugins.benchmark.rows import OPTIONS, Row, expand, parse_row


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("caformer_s18", Row("caformer_s18")),
        ("timm/resnet50.a1_in1k:bf16", Row("timm/resnet50.a1_in1k", bf16=True)),
        ("configs/a.py@poolformer_s12:deploy", Row("configs/a.py", "poolformer_s12", deploy=True)),
        ("C:\\configs\\a.py", Row("C:\\configs\\a.py")),
        ("C:/configs/a.py:compile", Row("C:/configs/a.py", compile=True)),
        ("x:channels-last,with_cp", Row("x", channels_last=True, with_cp=True)),
    ],
)
def test_parse(text, row):
    assert parse_row(text) == row
    assert parse_row(row.label) == row


def test_labels_are_in_one_order():
    assert parse_row("x:bf16,deploy").label == parse_row("x:deploy,bf16").label == "x:deploy,bf16"
    assert parse_row("x:deploy,bf16").plain == Row("x")
    assert [parse_row(f"x:{option}").options for option in OPTIONS] == [(o,) for o in OPTIONS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x:deplyo", "Unknown option 'deplyo' of x.*deploy, channels_last.*deploy"),
        ("x:bf16,fp16", "exclude each other"),
        (":deploy", "expected NAME"),
        ("x@poolformer_s12", "config file"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_row(text)


def test_variants_go_to_rows_without_options():
    rows = [parse_row("a"), parse_row("b:compile"), parse_row("a")]
    labels = [row.label for row in expand(rows, ["plain", "deploy", "deploy,bf16"])]
    assert labels == ["a", "a:deploy", "a:deploy,bf16", "b:compile"]
    assert expand(rows, []) == [parse_row("a"), parse_row("b:compile")]
