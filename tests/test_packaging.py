"""What ends up in wheels and editable installs, and what is left after an uninstall."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

import mmplugins

ROOT = Path(__file__).resolve().parents[1]
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md")
FILES += ("CONTRIBUTING.md", "Makefile", "model-index.yml", "mkdocs.yml")
FILES += ("SECURITY.md", "CITATION.cff", ".pre-commit-config.yaml", ".ci/run")
FOLDERS = ("mmplugins", "hook", "configs", "tools", "requirements", "docs", "tests")
LEAF = "configs/poolformer/retinanet_poolformer-s12_fpn_1x_coco.py"
HOOK = {"mmplugins_hook.py", "mmplugins_hook.pth", "mmplugins_hook.start"}
HAS_HOOK = "import sys; print(any(type(f).__name__ == 'Starter' for f in sys.meta_path))"


def run(*command, **more):
    """Run a command without this machine's start-up settings and return its output."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MMPLUGINS_HOOK")}
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, **more
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Copy what is built from, so that nothing is written into the repository."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in FILES:
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", ".mim")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    return copy


def all_files(folder, *names):
    """Files below some of a folder's entries, by their paths in it, without what Python makes."""
    paths = (path for name in names for path in [folder / name, *(folder / name).rglob("*")])
    files = {path.relative_to(folder) for path in paths if path.is_file()}
    return {file.as_posix() for file in files if not {"__pycache__", ".mim"} & set(file.parts)}


def build(checkout, kind, folder):
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    return folder / run(sys.executable, "-c", code, cwd=checkout).split()[-1]


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    return build(checkout, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def editable(checkout, tmp_path_factory):
    return build(checkout, "editable", tmp_path_factory.mktemp("editable"))


@pytest.fixture(scope="module")
def sdist(checkout, tmp_path_factory):
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    archive = build(checkout, "sdist", folder)
    shutil.unpack_archive(archive, folder)
    return folder / archive.name.removesuffix(".tar.gz")


def test_the_wheel_holds_package_mim_and_hook(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= HOOK
    mim = all_files(ROOT, "configs", "tools", "model-index.yml")
    mim = {f"mmplugins/.mim/{name}" for name in mim}
    assert f"mmplugins/.mim/{LEAF}" in mim
    assert {name for name in names if name.startswith("mmplugins/.mim/")} == mim
    assert {
        "mmplugins/__init__.py",
        "mmplugins/py.typed",
        "mmplugins/compat/ops/__init__.py",
        "mmplugins/compat/patches/checkpoints.py",
    } <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == HOOK | {"mmplugins", f"mmplugins-{mmplugins.__version__}.dist-info"}
    for name in HOOK:
        assert zipfile.ZipFile(wheel).read(name) == (ROOT / "hook" / name).read_bytes()


@pytest.mark.slow
def test_the_source_distribution_is_the_checkout(checkout, sdist):
    """What README and Makefile name is in it."""
    expected = all_files(checkout, *FILES, *FOLDERS)
    made = {"PKG-INFO", "setup.cfg"} | all_files(sdist, "mmplugins.egg-info")
    assert LEAF in expected and all_files(sdist, ".") - made == expected


@pytest.mark.slow
def test_a_wheel_of_the_source_distribution_is_the_same(sdist, wheel, tmp_path):
    again = zipfile.ZipFile(build(sdist, "wheel", tmp_path))
    assert set(again.namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_start_up_files_call_the_same_function():
    legacy = (ROOT / "hook" / "mmplugins_hook.pth").read_text().split()
    assert legacy == ["import", "mmplugins_hook;", "mmplugins_hook.install()"]
    assert (ROOT / "hook" / "mmplugins_hook.start").read_text() == "mmplugins_hook:install\n"


def test_the_metadata_name_the_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    for extra in ("openmmlab", "onedl", "tensorboard", "export", "test", "docs", "dev"):
        assert f"Provides-Extra: {extra}\n" in metadata
    assert f"Version: {mmplugins.__version__}\n" in metadata
    assert "Requires-Python: >=3.10\n" in metadata


def test_the_version_is_the_one_to_cite_and_heads_the_changelog():
    assert f"version: {mmplugins.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert changelog.index(f"## [{mmplugins.__version__}]") == changelog.index("## [")


def test_the_editable_wheel_holds_the_hook_and_a_true_record(editable):
    with zipfile.ZipFile(editable) as archive:
        names = archive.namelist()
        assert set(names) >= HOOK and len(names) == len(set(names))
        (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
        rows = [line.rsplit(",", 2) for line in archive.read(record).decode().split()]
        assert {row[0] for row in rows} == set(names)
        for name, digest, size in rows:
            if name != record:
                data = archive.read(name)
                kind, _, value = digest.partition("=")
                assert hashlib.new(kind, data).digest() == urlsafe_b64decode(value + "==")
                assert len(data) == int(size)


def test_an_editable_install_links_mim(checkout, editable):
    mim = checkout / "mmplugins" / ".mim"
    assert (mim / LEAF).read_bytes() == (ROOT / LEAF).read_bytes()
    (checkout / "configs" / "_base_" / "later.py").write_text("later = 1\n")
    if (mim / "configs").is_symlink():  # where the system has no links, it is a copy
        assert (mim / "configs" / "_base_" / "later.py").exists()


@pytest.mark.parametrize("kind", ["wheel", pytest.param("editable", marks=pytest.mark.slow)])
def test_install_activates_and_uninstall_removes_the_hook(kind, request, tmp_path):
    venv.create(tmp_path, with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = tmp_path / scripts / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    install = ["install", "--no-deps", "--no-index", "--no-compile", "--quiet"]
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "another.py").touch()  # pip removes the folder with its last file
    assert run(python, "-c", HAS_HOOK).strip() == "False"
    run(*pip, *install, request.getfixturevalue(kind))
    assert {path.name for path in site.iterdir()} >= HOOK
    assert run(python, "-c", HAS_HOOK).strip() == "True"
    run(*pip, "uninstall", "--yes", "--quiet", "mmplugins")
    assert not [path.name for path in site.rglob("*") if "mmplugins" in path.name]
    assert run(python, "-c", HAS_HOOK).strip() == "False"
