"""Build of mmplugins. What is not plain setuptools here:

* `configs/`, `tools/` and `model-index.yml` travel inside the package as `mmplugins/.mim`,
  where OpenMMLab's tools look for them: copied into wheels, linked in editable installs.
* The files of `hook/` go to the root of site-packages, where Python looks for start-up files,
  in wheels and editable installs alike; pip records them and removes them again.
"""

import base64
import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
MIM = ("configs", "tools", "model-index.yml")
HOOK = ("mmplugins_hook.py", "mmplugins_hook.pth", "mmplugins_hook.start")


def version() -> str:
    """Read the version without importing the package."""
    text = (ROOT / "mmplugins" / "version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.+?)"', text).group(1)


def place_mim(folder: Path, link: bool) -> None:
    """Fill `.mim` anew, with relative links where the system allows them, else with copies."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in (ROOT / name for name in MIM):
        target = folder / source.name
        if link:
            try:
                target.symlink_to(os.path.relpath(source, folder), source.is_dir())
                continue
            except OSError:  # Windows without the right to make links
                pass
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)


def add_to_wheel(wheel: Path, files: list[Path]) -> None:
    """Add files to the root of a finished wheel and to its RECORD."""
    aside = wheel.with_suffix(".part")
    rows = []
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as new:
        for file in files:
            data = file.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            rows.append(f"{file.name},sha256={digest.decode()},{len(data)}\n")
            new.writestr(file.name, data)
        with zipfile.ZipFile(wheel) as old:
            for item in old.infolist():
                data = old.read(item)
                if item.filename.endswith(".dist-info/RECORD"):
                    data = "".join(rows).encode() + data
                new.writestr(item, data)
    os.replace(aside, wheel)


class BuildPackage(build_py):
    """Adds `.mim` to the package, and the hook beside it in a normal build."""

    def run(self) -> None:
        """Build as setuptools does, then add what it does not know."""
        super().run()
        if self.editable_mode:
            place_mim(ROOT / "mmplugins" / ".mim", link=True)
            return
        place_mim(Path(self.build_lib) / "mmplugins" / ".mim", link=False)
        for name in HOOK:
            self.copy_file(str(ROOT / "hook" / name), str(Path(self.build_lib) / name))


class EditableWheel(editable_wheel):
    """Adds the hook to the wheel that stands for an editable install."""

    def run(self) -> None:
        """Build as setuptools does, then add the hook's files."""
        super().run()
        for wheel in Path(self.dist_dir).glob("mmplugins-*editable*.whl"):
            add_to_wheel(wheel, [ROOT / "hook" / name for name in HOOK])


setup(
    name="mmplugins",
    version=version(),
    description="MetaFormer backbones for dense prediction on the OpenMMLab tools",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["mmplugins", "mmplugins.*"]),
    package_data={
        "mmplugins": ["py.typed"],
        "mmplugins.benchmark": ["protocols/*.yml", "report.html"],
    },
    python_requires=">=3.10",
    # OpenCV comes with mmengine and mmcv, whose lines want different distributions of it.
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "timm>=1.0.31",
        "numpy>=1.26",
        "safetensors>=0.4.3",
        "rich>=13.4",
        "matplotlib>=3.8",
        "pillow>=10.0",
        "filelock>=4.1",
        "huggingface-hub>=0.23",
        "pyyaml>=6.0",
        "pycocotools>=2.0.8",
        "faster-coco-eval>=1.6.5",
        "pandas[output-formatting]>=2.2",
        "scipy>=1.11",
        "adjusttext>=1.3",
        "jinja2>=3.1",
    ],
    extras_require={
        # The two lines share their module names: install one of them, never both.
        "openmmlab": [
            "mmengine>=0.10.7,<0.11",
            "mmcv-lite>=2.1.0,<2.2.0",
            "mmdet>=3.3.0,<3.4",
            "mmsegmentation>=1.2.2,<1.3",
            # mmseg imports these without asking for them.
            "ftfy",
            "regex",
        ],
        "onedl": [
            "onedl-mmengine>=0.10.12,<0.11",
            "onedl-mmcv>=2.3.6,<2.4",
            "onedl-mmdetection>=3.5.1,<3.6",
            "onedl-mmsegmentation>=1.4.2,<1.5",
        ],
        # leaderboard.py --submit slurm; energy of NVIDIA's GPUs.
        "benchmark": ["submitit>=1.5", "nvidia-ml-py>=12"],
        # vis_backends=[..., dict(type="TensorboardVisBackend")]
        "tensorboard": ["tensorboard>=2.14"],
        # What torch.onnx.export asks for, and what runs its files.
        "export": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.1"],
        # tools/export.py --format openvino, and running its files.
        "openvino": ["openvino>=2024.5"],
        # tools/export.py --int8
        "int8": ["nncf>=3.0", "openvino>=2025.0"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "pytest-cov>=5",
            "hypothesis>=6.100",
            "playwright>=1.50",
            "setuptools>=70.1",
        ],
        # `make docs`; the tested versions want Python 3.11.
        "docs": ["mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"],
        "dev": ["ruff>=0.9", "pre-commit>=3.5", "mypy>=1.15", "types-PyYAML"],
    },
    cmdclass={"build_py": BuildPackage, "editable_wheel": EditableWheel},
)
