"""Test predictions as pictures in one folder, or in a window, for mmdet and mmseg alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Draws every test picture beside its prediction, by the config's visualizer.

    The hooks of mmdet and mmseg draw into folders of their own making below the one that they are
    given, and over pictures of the same name from another folder. Here ``a/1.jpg`` is ``1.jpg``,
    and ``b/1.jpg`` after it ``1_2.jpg``.

    Args:
        folder: Where the pictures go, made if need be; None draws into none. Defaults to None.
        show: Show each in a window. Defaults to False.
        wait_time: Seconds for which it is shown. Defaults to 2.
        score_thr: Lowest score of a box that is drawn; segmentors have none. Defaults to 0.3.
    """

    def __init__(
        self,
        folder: str | None = None,
        show: bool = False,
        wait_time: float = 2.0,
        score_thr: float = 0.3,
    ) -> None:
        self.folder, self.show, self.wait_time = folder and Path(folder), show, wait_time
        self.score_thr = score_thr
        self._names: dict[str, int] = {}

    def before_test(self, runner: Runner) -> None:
        """Make the folder."""
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw what this batch put out."""
        import mmcv  # and OpenCV with it, which importing this package should not load

        for sample in outputs or ():
            picture = mmcv.imfrombytes(get(sample.img_path), channel_order="rgb")
            name = self._name_for(Path(sample.img_path))
            by_score = "pred_instances" in sample
            runner.visualizer.add_datasample(
                name,
                picture,
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                out_file=str(self.folder / name) if self.folder else None,
                **(dict(pred_score_thr=self.score_thr) if by_score else {}),
            )

    def _name_for(self, path: Path) -> str:
        """The picture's own name, with a number where an earlier one had it."""
        while True:  # other processes draw into the same folder
            count = self._names[path.name] = self._names.get(path.name, 0) + 1
            name = path.name if count == 1 else f"{path.stem}_{count}{path.suffix}"
            if not self.folder or not (self.folder / name).exists():
                return name
