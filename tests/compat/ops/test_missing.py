import ast
import inspect
from importlib import import_module
from pathlib import Path

import mmcv
import pytest

ops = import_module("mmplugins.compat.ops")
MMCV_SOURCES = sorted((Path(mmcv.__file__).parent / "ops").glob("*.py"))


def names_asked_for():
    """Every op name that mmcv's Python files pass to ``load_ext``."""
    names = set()
    for source in MMCV_SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_ext":
                names.update(ast.literal_eval(node.args[1]))
    return names


def calls_of_the_stand_in():
    """Every ``ext_module.<op>(...)`` in mmcv's Python files whose op is really here."""
    for source in MMCV_SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            function = getattr(node, "func", None)
            if (
                isinstance(function, ast.Attribute)
                and getattr(function.value, "id", "") == "ext_module"
                and function.attr in ops.__all__
            ):
                yield source.name, node


def test_mmcv_asks_for_many_ops_and_all_resolve():
    names = names_asked_for()
    assert len(names) > 80 and set(ops.__all__) <= names
    for name in names:
        assert callable(getattr(ops, name)), name


def test_mmcv_s_calls_fit_the_signatures():
    called = set()
    for source, node in calls_of_the_stand_in():
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            continue
        signature = inspect.signature(getattr(ops, node.func.attr))
        keywords = {keyword.arg: None for keyword in node.keywords}
        try:
            signature.bind(*node.args, **keywords)
        except TypeError as error:
            raise AssertionError(f"{source}:{node.lineno} {node.func.attr}: {error}") from error
        called.add(node.func.attr)
    assert set(ops.__all__) - called <= {"nms_match"}  # called with a starred list


def test_every_other_op_raises_when_called_and_says_how_to_get_it():
    for name in sorted(names_asked_for() - set(ops.__all__)) + ["an_op_of_tomorrow"]:
        with pytest.raises(NotImplementedError, match=f"mmcv op '{name}'.*MMCV_WITH_OPS=1"):
            getattr(ops, name)(1, 2, three=3)


def test_from_import_of_a_missing_op():
    from mmplugins.compat.ops import ball_query_forward

    assert ball_query_forward.__name__ == "ball_query_forward"


@pytest.mark.parametrize("name", ["__wrapped__", "__no_such_thing__", "_private"])
def test_names_with_an_underscore_are_not_ops(name):
    assert not hasattr(ops, name)
    with pytest.raises(AttributeError, match=name):
        getattr(ops, name)


def test_the_list_of_ops_is_true():
    for name in ops.__all__:
        assert inspect.getmodule(getattr(ops, name)).__name__.startswith(ops.__name__), name
