"""Experiment trackers, through the backends that mmengine has for them; offline unless told so."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmplugins.engine import SettingError

TRACKERS = ("mlflow", "wandb", "tensorboard")
"""Trackers, each of a package of its name."""


def check_tracker(name: str) -> None:
    """See that a tracker's package is installed.

    Raises:
        SettingError: If it is not.
    """
    if importlib.util.find_spec(name) is None:
        raise SettingError(f"--tracker {name} needs the package {name}: pip install {name}")


def use_tracker(cfg: Config, name: str, project: str, run: str, folder: Path) -> None:
    """Let a training log to a tracker as well.

    MLflow writes to ``MLFLOW_TRACKING_URI``, else to a database in ``folder``. Weights & Biases is
    offline unless ``WANDB_MODE`` says otherwise.

    Args:
        cfg: Of the training, changed in place.
        name: Of :data:`TRACKERS`.
        project: What the tracker groups runs by.
        run: The run's name.
        folder: For the tracker's own files.
    """
    store = _store(name, folder)
    backend = dict(
        mlflow=dict(
            type="MLflowVisBackend", exp_name=project, run_name=run,
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", _database(store)),
        ),
        wandb=dict(
            type="WandbVisBackend",
            init_kwargs=dict(
                project=project, name=run, dir=str(store), settings=dict(silent=True),
                mode=os.environ.get("WANDB_MODE", "offline"),
            ),
        ),
        tensorboard=dict(type="TensorboardVisBackend"),
    )[name]  # fmt: skip
    visualizer = cfg.setdefault("visualizer", ConfigDict(type="Visualizer"))
    visualizer.vis_backends = [*(visualizer.get("vis_backends") or ()), backend]


def prepare_tracker(name: str, project: str, folder: Path) -> None:
    """Make a tracker's files, once, before several trainings would all make them.

    Args:
        name: Of :data:`TRACKERS`.
        project: As for :func:`use_tracker`.
        folder: Likewise.
    """
    store = _store(name, folder)
    if name == "wandb":
        store.mkdir(parents=True, exist_ok=True)
    if name != "mlflow" or "MLFLOW_TRACKING_URI" in os.environ:
        return
    import mlflow

    store.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(_database(store))
    if client.get_experiment_by_name(project) is None:
        # Left to itself, MLflow puts them into the folder that it is called in.
        client.create_experiment(project, artifact_location=(store / "artifacts").as_uri())


def _store(name: str, folder: Path) -> Path:
    return (folder / "trackers" / name).resolve()


def _database(store: Path) -> str:
    return f"sqlite:///{store / 'mlflow.db'}"  # MLflow 3 refuses plain folders
