"""Names of the pictures that are drawn."""

from __future__ import annotations

from pathlib import Path

from mmplugins.engine import DrawPredictionsHook


def test_a_name_from_two_folders_is_numbered(tmp_path):
    hook = DrawPredictionsHook(str(tmp_path))
    names = []
    for path in ("a/1.jpg", "b/1.jpg", "a/2.jpg", "c/1.jpg"):
        names.append(hook._name_for(Path(path)))
        (tmp_path / names[-1]).touch()
    assert names == ["1.jpg", "1_2.jpg", "2.jpg", "1_3.jpg"]
    assert DrawPredictionsHook(str(tmp_path))._name_for(Path("d/1.jpg")) == "1_4.jpg"
