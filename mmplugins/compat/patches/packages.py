"""Finding installed packages: setuptools 82 dropped pkg_resources, Python 3.14 find_loader."""

import importlib.util
import os.path
import pkgutil
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType

from .patch import patch, rebind


def _is_distribution(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def is_installed(package: str) -> bool:
    """Tell whether a distribution or a regular package of this name is installed."""
    if _is_distribution(package):
        return True
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def package2module(package: str) -> str:
    """Return the first top-level module of a distribution.

    Raises:
        PackageNotFoundError: No distribution has this name.
        ValueError: Its metadata do not name the modules.
    """
    modules = (distribution(package).read_text("top_level.txt") or "").split()
    if not modules:
        raise ValueError(f"can not infer the module name of {package}: it has no top_level.txt")
    return modules[0]


def get_installed_path(package: str) -> str:
    """Return the folder of a package, given the name of its module or of its distribution.

    Raises:
        PackageNotFoundError: Neither is installed.
        RuntimeError: It is a namespace package, which has no one folder.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        spec = importlib.util.find_spec(package2module(package))
    if spec is None:
        raise PackageNotFoundError(package)
    if spec.origin is None:
        raise RuntimeError(
            f"{package} is a namespace package, which is invalid for `get_installed_path`"
        )
    return os.path.dirname(spec.origin)


def _needs_absent_pkg_resources(module: ModuleType) -> bool:
    names = module.is_installed.__code__.co_names
    return "pkg_resources" in names and importlib.util.find_spec("pkg_resources") is None


@patch("mmengine.utils.package_utils", needed=_needs_absent_pkg_resources)
def packages_without_pkg_resources(module: ModuleType) -> None:
    """``No module named 'pkg_resources'`` from ``_base_='mmdet::...'`` and ``get_config``."""
    for function in (is_installed, get_installed_path, package2module):
        rebind(module, function.__name__, function)


def _renamed_packages(module: ModuleType) -> list[str]:
    return [
        name
        for name, package in module.MODULE2PACKAGE.items()
        if name != package
        and not _is_distribution(package)
        and importlib.util.find_spec(name) is not None
    ]


@patch("mmengine.config.utils", needed=lambda module: bool(_renamed_packages(module)))
def packages_by_module_name(module: ModuleType) -> None:
    """``mmsegmentation is not installed`` from ``_base_='mmseg::...'`` with the onedl line.

    There the distribution has another name than mmengine's table says; the module has not.
    """
    for name in _renamed_packages(module):
        module.MODULE2PACKAGE[name] = name


def _ext_is_importable() -> bool:
    try:
        return importlib.util.find_spec("mmcv._ext") is not None
    except ImportError:  # no mmcv at all
        return False


def _needs_absent_find_loader(module: ModuleType) -> bool:
    functions = (getattr(module, name, None) for name in ("mmcv_full_available", "check_ops_exist"))
    return not hasattr(pkgutil, "find_loader") and any(
        "find_loader" in function.__code__.co_names for function in functions if function
    )


@patch("mmengine.utils.dl_utils.misc", "mmcv.utils.ext_loader", needed=_needs_absent_find_loader)
def ext_without_find_loader(module: ModuleType) -> None:
    """``module 'pkgutil' has no attribute 'find_loader'`` in every run on Python 3.14."""
    for name in ("mmcv_full_available", "check_ops_exist"):
        if hasattr(module, name):
            rebind(module, name, _ext_is_importable)
