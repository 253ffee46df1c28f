"""Experiment trackers, through the backends that mmengine has for them; offline unless told so."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmplugins.engine import SettingError

TRACKERS = {"mlflow": "mlflow", "wandb": "wandb", "tensorboard": "tensorboard"}
"""Trackers, and the packages that they need."""


def check_tracker(name: str) -> None:
    """See that a tracker's package is installed.

    Raises:
        SettingError: If it is not.
    """
    package = TRACKERS[name]
    if importlib.util.find_spec(package) is None:
        raise SettingError(f"--tracker {name} needs the package {package}: pip install {package}")


def use_tracker(cfg: Config, name: str, project: str, run: str, folder: Path) -> None:
    """Let a training log to a tracker as well.

    MLflow writes to ``MLFLOW_TRACKING_URI``, else to a file store in ``folder``. Weights & Biases
    is offline unless ``WANDB_MODE`` says otherwise.

    Args:
        cfg: Of the training, changed in place.
        name: Of :data:`TRACKERS`.
        project: What the tracker groups runs by.
        run: The run's name.
        folder: For the tracker's own files.
    """
    store = (folder / "trackers" / name).resolve()
    backend = dict(
        mlflow=dict(
            type="MLflowVisBackend", exp_name=project, run_name=run,
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", store.as_uri()),
        ),
        wandb=dict(
            type="WandbVisBackend",
            init_kwargs=dict(
                project=project, name=run, dir=str(store),
                mode=os.environ.get("WANDB_MODE", "offline"),
            ),
        ),
        tensorboard=dict(type="TensorboardVisBackend"),
    )[name]  # fmt: skip
    if name == "wandb":
        store.mkdir(parents=True, exist_ok=True)
    visualizer = cfg.setdefault("visualizer", ConfigDict(type="Visualizer"))
    visualizer.vis_backends = [*(visualizer.get("vis_backends") or ()), backend]
