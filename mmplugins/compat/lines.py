"""The two lines of OpenMMLab packages that share their module names, and the check for one."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

LINES = {
    "openmmlab": ("mmengine", "mmcv", "mmcv-lite", "mmcv-full", "mmdet", "mmsegmentation"),
    "onedl": ("onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation"),
}


def installed_lines() -> dict[str, dict[str, str]]:
    """Return ``{line: {distribution: version}}`` of what is installed, empty lines left out."""
    found: dict[str, dict[str, str]] = {}
    for line, names in LINES.items():
        for name in names:
            try:
                found.setdefault(line, {})[name] = version(name)
            except PackageNotFoundError:
                continue
    return {line: versions for line, versions in found.items() if versions}


def require_one_line() -> None:
    """Make sure that exactly one line is there to import.

    Raises:
        ImportError: Both lines are installed (each overwrites files of the other), or none is.
    """
    found = installed_lines()
    if len(found) > 1:
        listed = "; ".join(
            f"{line}: " + ", ".join(f"{name} {number}" for name, number in versions.items())
            for line, versions in found.items()
        )
        names = " ".join(name for versions in found.values() for name in versions)
        raise ImportError(
            f"Both OpenMMLab lines are installed ({listed}). They share their module names and "
            "overwrite each other's files. Remove both, then install one:\n"
            f"  pip uninstall -y {names}\n"
            "  pip install 'mmplugins[openmmlab]'    # or 'mmplugins[onedl]'"
        )
    # A source tree on the path has no distribution and is as good.
    if not found and find_spec("mmengine") is None:
        raise ImportError(
            "No OpenMMLab packages are installed (looked for "
            f"{', '.join(name for names in LINES.values() for name in names)}). Install one line:\n"
            "  pip install 'mmplugins[openmmlab]'    # or 'mmplugins[onedl]'"
        )
