"""Video files: exact frame numbers, streaming, damage, atomic writing."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from slotreel.data.video_io import VideoReader, VideoWriter, scan_video
from slotreel.errors import DataError
from tests.datasets.helpers import CLIP


def encode(path: Path, num_frames: int, codec: str = "libx264", **options: str) -> None:
    """Frames that differ, with key frames every five and B-frames between where there are any."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.options = options
        for n in range(num_frames):
            image = np.full((32, 48, 3), 40, dtype=np.uint8)
            image[:, 3 * n % 40 : 3 * n % 40 + 8] = 30 * (n % 7) + 60
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".mp4", "libx264", {"g": "5", "bf": "2"}),
        (".mp4", "libx264", {"g": "5", "bf": "2", "x264-params": "open-gop=1"}),
        (".mkv", "libx264", {"g": "5", "bf": "2"}),
        (".mov", "mpeg4", {"g": "5", "bf": "2"}),
        (".avi", "mpeg4", {"g": "5", "bf": "2"}),
        (".webm", "libvpx", {"g": "5"}),
    ],
)
def test_random_access_equals_sequential(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str]
) -> None:
    path = tmp_path / f"a{suffix}"
    encode(path, 23, codec, **options)
    with VideoReader(path) as reader:
        assert (reader.num_frames, reader.size) == (23, (32, 48))
        frames = list(reader.iterate())
        assert len(frames) == 23
        order = np.random.default_rng(0).permutation(23).tolist()
        for number in [*order, 22, 0, 0]:
            assert np.array_equal(reader.read([number])[0], frames[number]), number
        many = [17, 3, 3, 22, 0, 9]
        assert np.array_equal(reader.read(many), np.stack([frames[n] for n in many]))
        assert reader.read([]).shape == (0, 32, 48, 3)


def test_stored_clip() -> None:
    with VideoReader(CLIP) as reader:
        assert (reader.num_frames, reader.size, reader.fps) == (12, (90, 160), 5.0)
        with pytest.raises(IndexError, match=r"frames 0 to 11, asked for \[12\]"):
            reader.read([12])


def test_known_index_saves_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    index = scan_video(CLIP)
    monkeypatch.setattr("slotreel.data.video_io.scan_video", None)
    with VideoReader(CLIP, index) as reader:
        assert reader.read([11]).shape == (1, 90, 160, 3)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotated_recordings_come_upright(tmp_path: Path, turns: int) -> None:
    """Telephones store frames as the sensor lies and a matrix in the track header."""
    data = bytearray(CLIP.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, layer to volume
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[turns]  # clockwise quarter turns
    fixed = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data[at : at + 36] = struct.pack(">9i", *fixed)
    (tmp_path / "turned.mp4").write_bytes(data)
    with VideoReader(CLIP) as plain, VideoReader(tmp_path / "turned.mp4") as turned:
        expected = np.rot90(plain.read([3])[0], -turns)
        assert turned.size == expected.shape[:2]
        assert np.array_equal(turned.read([3])[0], expected)
        assert np.array_equal(next(turned.iterate()).shape, expected.shape)


def test_damaged_videos(tmp_path: Path) -> None:
    whole = CLIP.read_bytes()
    cases = {
        "missing": (None, "there is no such file"),
        "empty": (b"", "Copy it again"),
        "text": (b"hello " * 50, "Copy it again"),
        "truncated": (whole[: len(whole) // 2], "Copy it again"),
    }
    for name, (data, why) in cases.items():
        path = tmp_path / f"{name}.mp4"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}.mp4: .*{why}"):
            VideoReader(path)


def test_cut_off_video_whose_header_came_first(tmp_path: Path) -> None:
    encode(tmp_path / "whole.mp4", 40, movflags="unused")
    with av.open(str(tmp_path / "whole.mp4")) as source:
        options = {"movflags": "faststart"}
        with av.open(str(tmp_path / "fast.mp4"), "w", options=options) as sink:
            stream = sink.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = stream
                    sink.mux(packet)
    data = (tmp_path / "fast.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: (data.index(b"mdat") + len(data)) // 2])
    with pytest.raises(DataError, match=r"cut.mp4: it is cut off: announces 40 frames, holds \d+"):
        VideoReader(tmp_path / "cut.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_video_of_no_frames(tmp_path: Path, suffix: str) -> None:
    with av.open(str(tmp_path / f"none{suffix}"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        container.start_encoding()
    with pytest.raises(DataError, match=rf"none{suffix}: .*Copy it again"):
        VideoReader(tmp_path / f"none{suffix}")


def test_sound_without_pictures(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"sound.mp4: it has no video stream"):
        VideoReader(tmp_path / "sound.mp4")


def test_writer_pads_odd_sides_and_keeps_colours(tmp_path: Path) -> None:
    frames = np.zeros((6, 31, 45, 3), dtype=np.uint8)
    frames[:, :, :, 0] = np.linspace(20, 220, 45).astype(np.uint8)
    with VideoWriter(tmp_path / "new" / "a.mp4", fps=12.5) as writer:
        for frame in frames:
            writer.write(frame)
        assert not (tmp_path / "new" / "a.mp4").exists()
    with VideoReader(tmp_path / "new" / "a.mp4") as reader:
        assert (reader.num_frames, reader.size, reader.fps) == (6, (32, 46), 12.5)
        error = np.abs(reader.read(range(6))[:, :31, :45].astype(int) - frames)
    assert error.mean() < 4
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_gif(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.gif", fps=10) as writer:
        for n in range(4):
            writer.write(np.full((9, 11, 3), 60 * n, dtype=np.uint8))
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (4, (11, 9), 100)
        image.seek(2)
        assert np.array_equal(np.unique(np.array(image.convert("RGB"))), [120])


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_writer_that_fails_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    shutil.copy(CLIP, tmp_path / name)
    writer = VideoWriter(tmp_path / name)
    writer.write(np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"frame 1 is \(8, 10\), the others are \(8, 8\)"), writer:
        writer.write(np.zeros((8, 10, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="no frame was written"), VideoWriter(tmp_path / name):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == CLIP.read_bytes()


def test_writer_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.mp4 or \.gif, got '\.avi'"):
        VideoWriter(tmp_path / "a.avi")
    with pytest.raises(ValueError, match=r"fps=0"):
        VideoWriter(tmp_path / "a.mp4", fps=0)
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), got float64"):
        VideoWriter(tmp_path / "a.mp4").write(np.zeros((2, 2, 3)))
