"""One line of OpenMMLab packages: the check at import."""

from importlib.metadata import PackageNotFoundError

import pytest

from mmplugins.compat import lines


@pytest.fixture
def installed(monkeypatch):
    """Make the named distributions the only ones that are installed."""

    def install(versions, importable=True):
        def version(name):
            if name not in versions:
                raise PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(lines, "version", version)
        monkeypatch.setattr(lines, "find_spec", lambda name: object() if importable else None)

    return install


UPSTREAM = {"mmengine": "0.10.7", "mmcv-lite": "2.1.0", "mmdet": "3.3.0"}
FORK = {"onedl-mmengine": "0.10.12", "onedl-mmcv": "2.3.6"}


@pytest.mark.parametrize("versions", [UPSTREAM, FORK])
def test_one_line_is_fine(installed, versions):
    installed(versions)
    lines.require_one_line()
    assert len(lines.installed_lines()) == 1


def test_both_lines_are_named_with_the_remedy(installed):
    installed({**UPSTREAM, **FORK})
    with pytest.raises(ImportError) as error:
        lines.require_one_line()
    message = str(error.value)
    assert "mmengine 0.10.7" in message and "onedl-mmcv 2.3.6" in message
    assert f"pip uninstall -y {' '.join([*UPSTREAM, *FORK])}\n" in message
    assert "pip install 'mmplugins[openmmlab]'" in message


def test_no_line_is_an_error_with_the_remedy(installed):
    installed({}, importable=False)
    with pytest.raises(ImportError, match=r"pip install 'mmplugins\[openmmlab\]'"):
        lines.require_one_line()


def test_a_source_tree_on_the_path_is_enough(installed):
    installed({}, importable=True)
    assert lines.require_one_line() is None


def test_here_one_line_is_installed():
    assert len(lines.installed_lines()) == 1
