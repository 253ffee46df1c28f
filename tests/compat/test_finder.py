"""The finders and the start-up hook: what wins, what is loaded when, and how often."""

import json
import sys

import pytest
from openmmlab_process import run_python

import mmplugins
from mmplugins.compat import finder

FAKE_MMCV = "import sys; sys.path.insert(0, 'fake'); import mmcv\n"


@pytest.fixture
def fake_mmcv(tmp_path):
    """Make an empty mmcv to import instead of the real one."""
    (tmp_path / "fake" / "mmcv").mkdir(parents=True)
    (tmp_path / "fake" / "mmcv" / "__init__.py").touch()
    return tmp_path


def test_without_hook_there_is_no_ext(fake_mmcv):
    code = FAKE_MMCV + "import importlib.util as u; print(u.find_spec('mmcv._ext'))"
    assert run_python(fake_mmcv, "-c", code, hook=False).strip() == "None"


def test_the_stand_in_serves_ext(fake_mmcv):
    code = FAKE_MMCV + "import importlib.util as u; print(u.find_spec('mmcv._ext').origin)"
    assert run_python(fake_mmcv, "-c", code, hook=True).strip() == str(finder.STAND_IN)


def test_a_compiled_ext_wins(fake_mmcv):
    (fake_mmcv / "fake" / "mmcv" / "_ext.py").write_text("nms = 'compiled'")
    code = FAKE_MMCV + "import mmcv._ext; print(mmcv._ext.nms)"
    assert run_python(fake_mmcv, "-c", code, hook=True).strip() == "compiled"
    late = FAKE_MMCV + "import mmplugins_hook as h; h.put_compat_in_force()\n"
    code = late + "import mmcv._ext; print(mmcv._ext.nms)"
    assert run_python(fake_mmcv, "-c", code, hook=False).strip() == "compiled"


def test_the_hook_loads_compat_alone(fake_mmcv):
    code = FAKE_MMCV + (
        "print('mmplugins.compat' in sys.modules, 'mmplugins' in sys.modules, "
        "'torch' in sys.modules, 'mmcv._ext' in sys.modules)"
    )
    assert run_python(fake_mmcv, "-c", code, hook=True).split() == ["True", *["False"] * 3]


def test_start_up_loads_nothing(tmp_path):
    """Without `site` (-S), where an installed hook would already have run in both."""
    bare = "import json, os, sys\n"
    show = "print(json.dumps(sorted(sys.modules)))"
    without = json.loads(run_python(tmp_path, "-S", "-c", bare + show, hook=False))
    with_hook = bare + "import mmplugins_hook; mmplugins_hook.install()\n" + show
    loaded = json.loads(run_python(tmp_path, "-S", "-c", with_hook, hook=True))
    assert set(loaded) - set(without) == {"mmplugins_hook"}


def test_the_hook_can_be_switched_off(fake_mmcv):
    code = FAKE_MMCV + "print('mmplugins.compat' in sys.modules)"
    assert run_python(fake_mmcv, "-c", code, hook=True, MMPLUGINS_HOOK="off").strip() == "False"


def test_installing_again_changes_nothing(fake_mmcv):
    code = FAKE_MMCV + (
        "import mmplugins_hook as h; h.install(); h.put_compat_in_force()\n"
        "sys.modules['mmplugins.compat'].install()\n"
        "print(*[type(f).__name__ for f in sys.meta_path])"
    )
    names = run_python(fake_mmcv, "-c", code, hook=True).split()
    assert names[0] == "PatchFinder" and names[-1] == "StandInFinder"
    for name in ("Starter", "PatchFinder", "StandInFinder"):
        assert names.count(name) == 1


def test_spawned_processes_have_it(fake_mmcv):
    (fake_mmcv / "spawn.py").write_text(
        "import multiprocessing, sys\n"
        "sys.path.insert(0, 'fake')\n"
        "def child(queue):\n"
        "    import importlib.util, mmcv\n"
        "    queue.put(importlib.util.find_spec('mmcv._ext').origin)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    context.Process(target=child, args=(queue,)).start()\n"
        "    print(queue.get(timeout=60))\n"
    )
    assert run_python(fake_mmcv, "spawn.py", hook=True).strip() == str(finder.STAND_IN)


@pytest.mark.slow
def test_openmmlab_works_before_and_shares_compat_after_mmplugins(tmp_path):
    """mmdet's and mmseg's APIs without mmplugins; a later import finds the same compat."""
    code = (
        "import sys, mmdet.apis, mmseg.apis, mmcv._ext\n"
        "assert 'mmplugins' not in sys.modules\n"
        "compat = sys.modules['mmplugins.compat']\n"
        "import mmplugins\n"
        "assert mmplugins.compat is compat\n"
        "print(mmcv._ext.__file__)"
    )
    output = run_python(tmp_path, "-W", "ignore", "-c", code, hook=True)
    assert output.strip().endswith(str(finder.STAND_IN))


def test_importing_mmplugins_puts_it_in_force():
    names = [type(one).__name__ for one in sys.meta_path]
    assert names.count("PatchFinder") == names.count("StandInFinder") == 1
    mmplugins.compat.install()
    assert [type(one).__name__ for one in sys.meta_path] == names


def test_a_late_install_warns_of_operators_that_are_lost(fake_mmcv):
    code = FAKE_MMCV + (
        "import types, warnings; sys.modules['mmdet.models'] = types.ModuleType('mmdet.models')\n"
        "import mmplugins_hook as h\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always'); h.put_compat_in_force()\n"
        "print([str(one.message)[:22] for one in caught])"
    )
    assert "mmdet was imported bef" in run_python(fake_mmcv, "-c", code, hook=False)
