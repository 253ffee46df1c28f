"""Finding installed packages: setuptools 82 dropped pkg_resources, Python 3.14 find_loader."""

import importlib.util
import os.path
import pkgutil
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType
from typing import Any

from .patch import patch, rebind

OWN = "mmplugins"
"""This package, as configs of others name it in ``mmplugins::...``."""


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


@patch("mmengine.config.utils", needed=lambda module: OWN not in module.MODULE2PACKAGE)
def own_configs_by_name(module: ModuleType) -> None:
    """``mmengine does not support to load mmplugins config`` from ``mmplugins::...``.

    mmengine's table of packages is left alone: registries of a scope in it want more of its module.
    """
    split = module._get_package_and_cfg_path

    def splits(cfg_path: str) -> tuple[str, str]:
        package, _, path = cfg_path.partition("::")
        return (OWN, path) if package == OWN and path else split(cfg_path)

    rebind(module, "_get_package_and_cfg_path", splits)


@patch("mmengine.config.config", needed=lambda module: True)
def own_configs_without_scope(module: ModuleType) -> None:
    """``RetinaNet is not in the mmengine::model registry`` from ``_base_='mmplugins::...'``.

    Every part of a base config gets its package for a scope, and this one has no registries: its
    configs say by ``default_scope`` whether they are mmdet's or mmseg's.
    """
    find = module.Config._get_cfg_path

    def found(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = find(cfg_path, filename)
        return path, None if scope == OWN else scope

    module.Config._get_cfg_path = staticmethod(found)


@patch("mim.utils.utils", needed=lambda module: True)
def editable_installs_in_mim(module: ModuleType) -> None:
    """``mim train mmplugins`` looks for an editable install's files in site-packages."""
    rebind(module, "get_installed_path", get_installed_path)


@patch("mim.commands.search", needed=lambda module: True)
def configs_without_weights_in_mim(module: ModuleType) -> None:
    """``mim download mmplugins`` wants trained weights beside every config, and there are none."""
    ask = module.get_model_info

    def asked(package: str, *args: Any, shown_fields: Any = None, **kwargs: Any) -> Any:
        if package != OWN or "weight" not in (shown_fields or ()):
            return ask(package, *args, shown_fields=shown_fields, **kwargs)
        rest = [name for name in shown_fields if name != "weight"]
        found = ask(package, *args, shown_fields=rest, **kwargs)
        return {name: dict(fields, weight="") for name, fields in found.items()}

    rebind(module, "get_model_info", asked)


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
