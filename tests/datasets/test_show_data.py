"""scripts/show_data.py: every known data set on one sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slotreel.data.image_io import image_size
from slotreel.data.sources.fbms59 import Fbms59
from slotreel.data.sources.jhmdb import Jhmdb
from slotreel.types import RawClip
from tests.datasets import tiny
from tests.datasets.helpers import DAVIS


@pytest.fixture
def show(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("show_data")


@pytest.mark.parametrize("name", ["segtrack_v2", "fbms59", "jhmdb", "vip", "ytvos"])
def test_sheet(tmp_path: Path, show: ModuleType, name: str) -> None:
    getattr(tiny, name)(tmp_path / name)
    out = tmp_path / "new" / "sheet.png"
    arguments = [str(out), f"dataset={name}", f"paths.data={tmp_path}", "--videos", "2"]
    assert show.main(arguments) == 0
    height, width = image_size(out)
    assert height > 100
    assert width > 100


def test_sheet_that_cannot_be(
    tmp_path: Path, show: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show.main([str(tmp_path / "a.png"), "dataset=vip", f"paths.data={DAVIS}"]) == 1
    assert "prepare.py vip --root" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_annotated_frames_are_preferred_and_others_hatched(
    tmp_path: Path, show: ModuleType
) -> None:
    source = Fbms59(str(tiny.fbms59(tmp_path)), "test")
    chosen = show.choose(source, 1, 5)  # evenly: 0 6 12 18 24; annotated: 0 20
    assert chosen == [0, 6, 12, 20, 24]
    clip = source.read(1, chosen)
    hatched = show.hatch(clip)
    assert clip.labels is not None
    assert np.array_equal(hatched[[0, 3]], clip.labels[[0, 3]])
    for t in (1, 2, 4):
        assert set(np.unique(hatched[t])) == {0, show.HATCHED}
    bare = clip._replace(labels=None, annotated=None)
    assert show.hatch(bare) is None


def test_joints_and_boxes_are_where_they_should_be(tmp_path: Path, show: ModuleType) -> None:
    clip = Jhmdb(str(tiny.jhmdb(tmp_path)), "test").read(0, [0, 1])
    assert show.choose(Jhmdb(str(tmp_path), "test"), 0, 8) == [0, 1, 2]
    joints = clip.hints["keypoints"]
    joints[:, 1:] = np.nan
    joints[:, 0] = [[3, 4], [-50, -50]]
    changed = (show.draw_hints(clip) != clip.video).any(-1)
    rows, columns = np.nonzero(changed[0])
    assert (rows.mean(), columns.mean()) == (4, 3)
    assert not changed[1].any()
    boxes = np.array([[[0.25, 0.25, 0.75, 0.5], [0, 0, 0, 0]]], dtype=np.float32)
    black = RawClip(np.zeros((1, 16, 16, 3), np.uint8), None, np.arange(1), {"boxes": boxes})
    rows, columns = np.nonzero(show.draw_hints(black)[0].any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 11, 4, 7)
