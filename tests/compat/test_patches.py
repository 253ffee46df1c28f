"""Every patch against its symptom: `openmmlab_checks.py` run without, with, and late."""

import json
import pickle
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from openmmlab_process import run_python

import mmplugins  # noqa: F401  (puts the patches in force here)
from mmplugins.compat.lines import installed_lines
from mmplugins.compat.patches import checkpoints, packages
from mmplugins.compat.patches.patch import TARGETS, apply_patches, patch, rebind

CHECKS = Path(__file__).with_name("openmmlab_checks.py")
FORK = "onedl" in installed_lines()
OLD_TORCH = checkpoints._release(torch.__version__) < (2, 6)
RAN = "the checkpoint ran its code"

# What each check says without the patches; None where these versions have no such fault.
SYMPTOMS = {
    "full_mmcv_is_seen": None if FORK else "find_loader",
    "base_config_of_mmdet": None if FORK else "pkg_resources",
    "base_config_of_mmseg": "mmsegmentation is not installed" if FORK else "pkg_resources",
    "base_config_of_mmplugins": "does not support to load mmplugins",
    "bare_state_dict": "KeyError: 'meta'",
    "installed_packages": None if FORK else "pkg_resources",
    "resume": None if FORK or OLD_TORCH else "Weights only load failed",
    "checkpoint_cannot_run_code": RAN if FORK or OLD_TORCH else None,
    "download_cannot_run_code": RAN,
    "amp": "only available training on gpu",
    "half_precision": "only support `torch.bfloat16`",
    "flops_of_given_inputs": "cannot be both set",
    "launcher": "NVIDIA|CUDA",
    "distributed_model": "device_ids",
    "process_group_at_exit": "the group is left",
}
# Only mmseg 1.2's tool passes both, so the patch stays out of the fork.
PATCHED = {name for name in SYMPTOMS if not (FORK and name == "flops_of_given_inputs")}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return ``outcome(mode)``, which runs all checks once per mode."""
    known = {}

    def outcome(mode):
        if mode not in known:
            folder = tmp_path_factory.mktemp(mode)
            late = ["late"] if mode == "late" else []
            ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
            run_python(folder, str(CHECKS), str(folder), *late, hook=mode == "hook", **ranks)
            known[mode] = json.loads((folder / "outcome.json").read_text())
        return known[mode]

    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, symptom in SYMPTOMS.items() if symptom])
def test_symptom_without_patches(outcomes, name):
    assert re.search(SYMPTOMS[name], outcomes("without")[name])


@pytest.mark.parametrize("mode", ["hook", pytest.param("late", marks=pytest.mark.slow)])
def test_patched(outcomes, mode):
    found = outcomes(mode)
    assert set(found) == set(SYMPTOMS)
    assert {name: found[name] for name in PATCHED} == dict.fromkeys(PATCHED, "ok")


def test_every_patch_is_checked():
    names = {one.name for patches in TARGETS.values() for one in patches}
    assert names == {
        "activations_of_norms",
        "amp_on_cpu",
        "config_of_inferencers_is_data",
        "config_of_resumed_is_not_run",
        "configs_without_weights_in_mim",
        "distributed_model_on_cpu",
        "editable_installs_in_mim",
        "ext_without_find_loader",
        "flops_of_given_inputs",
        "half_precision_on_cpu",
        "history_in_checkpoints",
        "no_fall_back_to_pickle",
        "own_configs_by_name",
        "own_configs_without_scope",
        "packages_by_module_name",
        "packages_without_pkg_resources",
        "points_of_all_processes",
        "positives_of_all_processes",
        "prepared_before_loading",
        "processes_on_cpu",
        "searched_layers_by_name",
        "ssd_predicts",
        "suppression_by_name",
        "warp_mode_by_name",
        "weights_only_before_torch_2_6",
        "weights_only_from_the_net",
    }


@pytest.mark.slow
def test_two_processes_train_and_end_cleanly(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(CHECKS.parent)!r})\n"
        "from openmmlab_checks import tiny_runner\n"
        "runner = tiny_runner('run', launcher='pytorch')\n"
        "runner.train()\n"
        "print('trained', runner.iter)\n"
    )
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    output = run_python(tmp_path, *torchrun, str(script), hook=True)
    assert output.count("trained 2") == 2  # three samples over two ranks


class _Call:
    """Pickles as a call of ``function(*arguments)`` followed by a state."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


def _saved(tmp_path, value):
    torch.save({"value": value}, tmp_path / "file.pth")
    return str(tmp_path / "file.pth")


def _history():
    from mmengine.logging import HistoryBuffer

    return HistoryBuffer


@pytest.mark.parametrize(
    "hostile",
    [
        lambda: _Call(eval, "1 + 1"),
        lambda: _Call(__import__, "os"),
        lambda: _Call(getattr, _history(), "__init__"),
        lambda: _Call(getattr, _history(), "register_statistics"),
        lambda: _Call(getattr, _Call(getattr, _history(), "update"), "__globals__"),
        lambda: _Call(getattr, torch.Tensor, "numpy"),
        lambda: _Call(np.dtype, "O"),
        lambda: _Call(np.dtype, "V8"),
        lambda: _Call(np.ndarray, (1,), "O", b"12345678"),
        lambda: _Call(type(np.dtype("f8"))),
        lambda: np.array([object], dtype=object),
        lambda: np.zeros(1, dtype=[("a", "f8")]),
        lambda: np.ma.masked_array([1.0]),
    ],
)
def test_hostile_pickles_are_refused(tmp_path, hostile):
    from mmengine.runner.checkpoint import load_from_local

    with pytest.raises((pickle.UnpicklingError, TypeError)):
        load_from_local(_saved(tmp_path, hostile()), "cpu")


def test_a_forged_dtype_stays_plain(tmp_path):
    from mmengine.runner.checkpoint import load_from_local

    state = (3, "<", None, ("a",), {"a": (np.dtype("f8"), 0)}, 8, 1, 0)
    forged = _Call(np.dtype, "f8", False, True, state=state)
    loaded = load_from_local(_saved(tmp_path, forged), "cpu")["value"]
    assert loaded == np.dtype("f8") and loaded.fields is None


@pytest.mark.parametrize("kind", checkpoints._SCALARS)
def test_numbers_of_every_kind_come_back(tmp_path, kind):
    from mmengine.runner.checkpoint import load_from_local

    array = np.array([[0, 1], [1, 0], [1, 1]], dtype=kind)
    for value in (array, np.asfortranarray(array), array[1, 0], array[:0]):
        loaded = load_from_local(_saved(tmp_path, value), "cpu")["value"]
        assert type(loaded) is type(value) and loaded.dtype == value.dtype
        np.testing.assert_array_equal(loaded, value)


def test_numpy_1_names_are_read(tmp_path):
    from mmengine.runner.checkpoint import load_from_local

    # Protocol 2 spells the home of the function out, so numpy 1's spelling is one replacement.
    torch.save(
        {"value": np.float64(2.5)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    data = (tmp_path / "old.pth").read_bytes()
    assert b"numpy._core.multiarray\nscalar" in data or b"numpy.core.multiarray\nscalar" in data
    swapped = data.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    for name, content in (("numpy1.pth", swapped), ("numpy2.pth", data)):
        (tmp_path / name).write_bytes(content)
        assert load_from_local(str(tmp_path / name), "cpu")["value"] == 2.5


def test_other_code_may_take_the_allow_list_away(tmp_path):
    from mmengine.runner.checkpoint import load_from_local

    history = _history()([1.0, 2.0], [1, 1])
    torch.serialization.clear_safe_globals()
    try:
        path = _saved(tmp_path, history)
        if OLD_TORCH or FORK:
            assert load_from_local(path, "cpu")["value"].mean() == 1.5
    finally:
        checkpoints._allow()
    assert torch.load(path, weights_only=True)["value"].mean() == 1.5


def test_installed_path_of_an_editable_install(tmp_path, monkeypatch):
    """The distribution's own folder (site-packages) does not hold the package then."""
    (tmp_path / "source" / "some_package").mkdir(parents=True)
    (tmp_path / "source" / "some_package" / "__init__.py").touch()
    info = tmp_path / "site" / "some_dist-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: some-dist\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("some_package\n")
    monkeypatch.syspath_prepend(tmp_path / "source")
    monkeypatch.syspath_prepend(tmp_path / "site")
    expected = str(tmp_path / "source" / "some_package")
    assert packages.get_installed_path("some-dist") == expected
    assert packages.get_installed_path("some_package") == expected
    assert packages.is_installed("some-dist")
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        packages.get_installed_path("no_such")
    (tmp_path / "source" / "spaces").mkdir()
    with pytest.raises(RuntimeError, match="namespace"):
        packages.get_installed_path("spaces")


def test_rebind_reaches_names_imported_elsewhere(monkeypatch):
    one, two = types.ModuleType("one"), types.ModuleType("two")
    one.value = two.other_name = object()
    for module in (one, two):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    rebind(one, "value", 5)
    assert one.value == two.other_name == 5


def test_a_mend_that_fails_warns_and_is_left_out(monkeypatch):
    monkeypatch.setitem(TARGETS, "some_module", [])

    @patch("some_module", needed=lambda module: True)
    def broken(module):
        module.absent.attribute = 1

    module = types.ModuleType("some_module")
    with pytest.warns(UserWarning, match="'broken' to some_module .AttributeError"):
        apply_patches(module)
    assert module.__patches__ == ()


def test_in_force_names_what_was_applied():
    import mmengine.dist.utils  # noqa: F401

    assert mmplugins.compat.in_force()["mmengine.dist.utils"] == ("processes_on_cpu",)


def test_mim_finds_an_editable_install_and_configs_without_weights(monkeypatch):
    """openmim itself is not installed here: its functions by name, as it calls them."""
    utils, search = types.ModuleType("mim.utils.utils"), types.ModuleType("mim.commands.search")
    utils.get_installed_path = lambda package: f"site-packages/{package}"
    columns = {"config": "configs/a.py", "epochs": 12}

    def get_model_info(package, shown_fields=None, to_dict=False):
        return {"a": {name: columns[name] for name in shown_fields}}

    search.get_model_info = get_model_info
    for module in (utils, search):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        apply_patches(module)
    assert Path(utils.get_installed_path("mmplugins"), "version.py").is_file()
    fields = ["weight", "config"]
    found = search.get_model_info("mmplugins", shown_fields=fields, to_dict=True)
    assert found == {"a": {"config": "configs/a.py", "weight": ""}}
    with pytest.raises(KeyError, match="weight"):
        search.get_model_info("mmdet", shown_fields=fields, to_dict=True)
