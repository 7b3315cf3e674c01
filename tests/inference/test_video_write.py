"""GIFs: time stamps on a clock of 1/100 s, width, colours, and memory; rates of MP4."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from slotreel.data.video_write import VideoWriter
from slotreel.errors import DataError


def write(path: Path, num_frames: int, fps: float, **options: int) -> None:
    with VideoWriter(path, fps, **options) as writer:
        for n in range(num_frames):
            frame = np.full((20, 30, 3), 90, dtype=np.uint8)
            frame[:, n % 30] = (n % 200, 255 - n % 200, 128)
            writer.write(frame)


def durations(path: Path) -> list[int]:
    with Image.open(path) as image:
        found = []
        for n in range(image.n_frames):
            image.seek(n)
            found.append(image.info["duration"])
        return found


@pytest.mark.parametrize("fps", [1, 8, 12.5, 24, 25, 30000 / 1001, 50])
def test_a_gif_keeps_the_mean_frame_rate(tmp_path: Path, fps: float) -> None:
    write(tmp_path / "a.gif", 60, fps)
    milliseconds = durations(tmp_path / "a.gif")
    assert len(milliseconds) == 60
    assert set(np.abs(np.array(milliseconds) - 1000 / fps) < 10) == {True}
    assert sum(milliseconds) == pytest.approx(60_000 / fps, abs=10)


@pytest.mark.parametrize("fps", [60, 120])
def test_a_gif_leaves_out_frames_that_no_browser_shows_in_time(tmp_path: Path, fps: float) -> None:
    write(tmp_path / "a.gif", 60, fps)
    milliseconds = durations(tmp_path / "a.gif")
    assert min(milliseconds) >= 20
    assert sum(milliseconds) == pytest.approx(60_000 / fps, abs=20)


def test_a_gif_loops_and_keeps_colours(tmp_path: Path) -> None:
    ramp = np.zeros((64, 64, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 255, 64), np.linspace(0, 255, 64)[:, None]
    with VideoWriter(tmp_path / "a.gif", 10) as writer:
        writer.write(ramp[::-1])
        writer.write(ramp)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0
        image.seek(1)
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - ramp).mean() < 8


def test_frames_reach_the_gif_at_once(tmp_path: Path) -> None:
    """Noise cannot be packed: what is not in the file would be in memory."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 100, 100, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "a.gif", 10) as writer:
        for frame in noise:
            writer.write(frame)
        (temporary,) = tmp_path.iterdir()
        early = temporary.stat().st_size
    assert early > (tmp_path / "a.gif").stat().st_size / 2


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_wide_frames_are_shrunk_and_narrow_ones_are_not(tmp_path: Path, suffix: str) -> None:
    for width, expected in ((15, (10, 15)), (30, (20, 30)), (99, (20, 30))):
        path = tmp_path / f"{width}{suffix}"
        write(path, 2, 10, max_width=width)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            even = suffix == ".mp4"
            assert (stream.height, stream.width) == tuple(n + n % 2 * even for n in expected)
    with pytest.raises(ValueError, match="max_width=0"):
        VideoWriter(tmp_path / "a.gif", max_width=0)


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(30000 / 1001, Fraction(30000, 1001)), (29.97, Fraction(2997, 100)), (0.5, Fraction(1, 2))],
)
def test_mp4_keeps_fractional_rates(tmp_path: Path, fps: float, rate: Fraction) -> None:
    write(tmp_path / "a.mp4", 5, fps)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == rate


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 5), (2, 300)])
def test_any_size(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    with VideoWriter(tmp_path / f"a{suffix}", 10) as writer:
        for n in range(3):
            writer.write(np.full((*size, 3), 80 * n, dtype=np.uint8))
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3
    assert np.abs(frames[2][: size[0], : size[1]].astype(int) - 160).max() < 8


def test_frames_too_large_for_h264(tmp_path: Path) -> None:
    strip = np.zeros((2, 16386, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"16386 x 2 .*format=gif"):
        with VideoWriter(tmp_path / "a.mp4") as writer:
            writer.write(strip)
    assert not list(tmp_path.iterdir())
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(strip[:, :16384])
    with VideoWriter(tmp_path / "a.gif") as writer:
        writer.write(strip)
