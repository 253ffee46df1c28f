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
        ("a.py:openvino,int8", Row("a.py", openvino=True, int8=True)),
        ("x:deploy,onnxruntime", Row("x", onnxruntime=True)),  # folded anyway
        ("files/model.xml:bf16", Row("files/model.xml", bf16=True)),
        ("model.onnx:onnxruntime", Row("model.onnx")),
        ("x:graphs,deploy", Row("x", deploy=True, compile=True, graphs=True)),
        ("x:freeze", Row("x", deploy=True, compile=True, freeze=True)),
    ],
)
def test_parse(text, row):
    assert parse_row(text) == row
    assert parse_row(row.label) == row


def test_labels_are_in_one_order():
    assert parse_row("x:bf16,deploy").label == parse_row("x:deploy,bf16").label == "x:deploy,bf16"
    assert parse_row("x:deploy,bf16").plain == Row("x")
    alone = [option for option in OPTIONS if option not in ("graphs", "freeze", "int8")]
    assert [parse_row(f"x:{option}").options for option in alone] == [(o,) for o in alone]
    assert parse_row("x:int8,openvino").label == "x:openvino,int8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x:deplyo", "Unknown option 'deplyo' of x.*deploy, channels_last.*deploy"),
        ("x:bf16,fp16", "exclude each other"),
        (":deploy", "expected NAME"),
        ("x@poolformer_s12", "config file"),
        ("model.onnx@poolformer_s12", "config file"),
        ("timm/x:freeze", "timm/x:freeze: freeze is for backbones of this package"),
        ("timm/x:graphs", "timm/x:graphs: graphs is for backbones of this package"),
        ("x:int8", "PyTorch has no int8 here; write x:openvino,int8"),
        ("x:openvino,bf16,int8", "exclude each other"),
        ("x:onnxruntime,bf16", "bf16 cannot be had in onnxruntime; expected no option beside it"),
        ("x:openvino,compile", "compile cannot be had in openvino; expected bf16 or int8"),
        ("x:openvino,onnxruntime", "openvino cannot be had in onnxruntime"),
        ("model.xml:int8", "int8 cannot be had in openvino; expected bf16"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_row(text)


def test_what_can_be_measured_of_a_row():
    eager, other = parse_row("x"), parse_row("x:openvino,bf16")
    assert (eager.eager, eager.trains, eager.runtime) == (True, True, "")
    assert (other.eager, other.trains, other.runtime) == (False, False, "openvino")
    assert (other.dtype, parse_row("x:openvino,int8").dtype) == ("bfloat16", "int8")
    file = parse_row("a/model.xml")
    assert file.whole and file.exported and file.runtime == "openvino" and not file.trains


def test_variants_go_to_rows_without_options():
    rows = [parse_row("a"), parse_row("b:compile"), parse_row("a")]
    labels = [row.label for row in expand(rows, ["plain", "deploy", "deploy,bf16"])]
    assert labels == ["a", "a:deploy", "a:deploy,bf16", "b:compile"]
    assert expand(rows, []) == [parse_row("a"), parse_row("b:compile")]
