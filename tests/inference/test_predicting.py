"""The predict command as a user types it: inputs good and bad, views, first masks, warnings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from slotreel.data.image_io import read_image, read_labels, write_labels
from slotreel.data.inputs import open_input
from slotreel.data.video_write import VideoWriter
from slotreel.inference.views import arrange
from slotreel.predicting import _warn_of_other_data, predict
from tests import running

CLIP = running.ROOT / "tests" / "data" / "clips" / "dog.mp4"
Type = Callable[..., str]


@pytest.fixture
def typed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Type:
    """Run the command with ``output=tmp/out``; what it said, and a refusal must be in words."""

    def run(*overrides: str, fails: bool = False) -> str:
        arguments = ["device=cpu", "num_slots=3", f"output={tmp_path / 'out'}", *overrides]
        if not any(word.startswith(("model=", "checkpoint=")) for word in overrides):
            arguments.append("model=blocks")
        code = 0
        try:
            predict(running.composed("predict", *arguments))
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        said = "".join(capfd.readouterr())
        assert code == int(fails), said
        assert "Traceback" not in said
        return said

    return run


def stills(
    folder: Path, num_frames: int, size: tuple[int, int] = (9, 11), mode: str = "RGB"
) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(num_frames):
        shades = np.full(size, 20 * n + 10, dtype=np.uint8)
        Image.fromarray(shades).convert(mode).save(folder / f"f_{n}.png")
    return f"input={folder}"


def film(path: Path, num_frames: int, size: tuple[int, int] = (18, 26), fps: float = 10) -> str:
    with VideoWriter(path, fps) as writer:
        for n in range(num_frames):
            writer.write(np.full((*size, 3), 12 * n, dtype=np.uint8))
    return f"input={path}"


def facts(path: Path) -> tuple[int, tuple[int, int], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0)
        return sum(1 for _ in container.decode(stream)), (stream.height, stream.width), rate


# --- what comes out --------------------------------------------------------------------------


def test_overlay_keeps_size_and_rate_and_the_table_names_it(tmp_path: Path, typed: Type) -> None:
    said = typed(film(tmp_path / "é 1 (2).mp4", 7, (18, 26), 30000 / 1001))
    folder = tmp_path / "out" / "é 1 (2)"
    assert facts(folder / "overlay.mp4") == (7, (18, 26), pytest.approx(29.97003, abs=1e-5))
    assert str(folder / "overlay.mp4") in said
    assert "7 frames, 26 x 18, 29.97 fps" in said
    assert not (folder / "slots").exists()
    assert "arrays" not in said


def test_several_views_at_once(tmp_path: Path, typed: Type) -> None:
    typed(stills(tmp_path / "seq", 4), "view=[side_by_side,slots]", "fps=5")
    folder = tmp_path / "out" / "seq"
    assert sorted(path.name for path in folder.iterdir()) == [
        "masks", "side_by_side.mp4", "slots.mp4",
    ]  # fmt: skip
    assert facts(folder / "side_by_side.mp4") == (4, (10, 22), 5)  # odd sides padded
    assert facts(folder / "slots.mp4")[0] == 4


def test_gif_fits_its_width(tmp_path: Path, typed: Type) -> None:
    typed(f"input={CLIP}", "format=gif", "gif_width=100", "view=[overlay,side_by_side,slots]")
    for view in ("overlay", "side_by_side", "slots"):
        with Image.open(tmp_path / "out" / "dog" / f"{view}.gif") as gif:
            assert 80 <= gif.width <= 100
            assert (gif.n_frames, gif.info["duration"]) == (12, 200)


def test_no_view_leaves_masks_named_after_the_frames(tmp_path: Path, typed: Type) -> None:
    typed(stills(tmp_path / "seq", 3), "view=[]", "background=largest")
    folder = tmp_path / "out" / "seq"
    assert [path.name for path in folder.iterdir()] == ["masks"]
    assert sorted(p.name for p in (folder / "masks").iterdir()) == [f"f_{n}.png" for n in range(3)]
    assert set(np.unique(read_labels(folder / "masks" / "f_2.png"))) < {0, 1, 2, 3}


def test_image_size_is_what_the_model_sees(tmp_path: Path, typed: Type) -> None:
    """Blocks of 2 x 3 pixels, enlarged: whole cells of one label."""
    typed(film(tmp_path / "a.mp4", 1, (16, 24)), "image_size=[2,3]", "view=[]")
    labels = read_labels(tmp_path / "out" / "a" / "masks" / "00000.png")
    cells = labels.reshape(2, 8, 3, 8)
    assert (cells == cells[:, :1, :, :1]).all()
    assert len(np.unique(labels)) == 3


def test_output_inside_the_input_folder(tmp_path: Path, typed: Type) -> None:
    """A second run finds the same inputs and writes to the same places."""
    film(tmp_path / "clips" / "a.mp4", 2)
    for _ in range(2):
        typed(f"input={tmp_path / 'clips'}", f"output={tmp_path / 'clips'}")
        assert sorted(p.name for p in (tmp_path / "clips").iterdir()) == ["a", "a.mp4"]
    folder = stills(tmp_path / "seq", 2)
    for _ in range(2):
        typed(folder, f"output={tmp_path / 'seq'}")
        assert len(list((tmp_path / "seq" / "seq" / "masks").iterdir())) == 2


def test_inputs_are_never_overwritten(tmp_path: Path, typed: Type) -> None:
    for where, place in (("o", "o/masks/masks"), ("p", "p/overlay/overlay.mp4")):
        path = tmp_path / place
        given = film(path, 2) if path.suffix else stills(path, 2)
        said = typed(given, f"output={tmp_path / where}", fails=True)
        assert f"would write to {path}" in said


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty folder", None, "neither a video nor holds any"),
        ("text.mp4", b"these are words, not frames", r"cannot read the video"),
        ("nothing.mp4", b"", r"cannot read the video"),
        ("half.mp4", CLIP.read_bytes()[:-9000], r"cannot read the video"),
    ],
)
def test_inputs_that_hold_no_video(
    tmp_path: Path, typed: Type, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    said = typed(f"input={path}", fails=True)
    assert message in said
    assert name in said
    assert not (tmp_path / "out").exists()


def test_a_video_without_frames(tmp_path: Path, typed: Type) -> None:
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 32, 32
        container.start_encoding()
    assert "none.avi" in typed(f"input={tmp_path / 'none.avi'}", fails=True)


def test_frames_of_different_size_name_the_frame(tmp_path: Path, typed: Type) -> None:
    stills(tmp_path / "seq", 3)
    Image.new("RGB", (50, 40)).save(tmp_path / "seq" / "f_1.png")
    said = typed(f"input={tmp_path / 'seq'}", fails=True)
    assert "f_1.png is 40 x 50" in said
    assert not list((tmp_path / "out").rglob("*.mp4"))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_grey_palette_and_transparent_frames(tmp_path: Path, typed: Type, mode: str) -> None:
    given = stills(tmp_path / "seq", 2, mode=mode)
    assert read_image(tmp_path / "seq" / "f_1.png").shape == (9, 11, 3)
    typed(given)
    assert facts(tmp_path / "out" / "seq" / "overlay.mp4")[:2] == (2, (10, 12))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (41, 33)])
def test_tiny_and_odd_frames(tmp_path: Path, typed: Type, size: tuple[int, int]) -> None:
    typed(stills(tmp_path / "seq", 2, size), "view=[overlay,side_by_side,slots]")
    assert read_labels(tmp_path / "out" / "seq" / "masks" / "f_1.png").shape == size
    even = tuple(side + side % 2 for side in size)
    assert facts(tmp_path / "out" / "seq" / "overlay.mp4")[:2] == (2, even)


def test_an_output_that_cannot_be_written(tmp_path: Path, typed: Type) -> None:
    (tmp_path / "file").touch()
    given = stills(tmp_path / "seq", 2)
    said = typed(given, f"output={tmp_path / 'file' / 'out'}", fails=True)
    assert f"cannot write to {tmp_path / 'file' / 'out' / 'seq'}" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["view=overly"], "view has no option overly; did you mean: overlay"),
        (["format=webm"], "format has no option webm"),
        (["background=biggest"], "type background=largest"),
        (["gif_width=0"], "expected gif_width above 0"),
        (["input=null"], "input= is missing"),
        (["model=fg_bg"], "copies the truth"),
        (["model=keep_first"], "type first_mask=PNG"),
    ],
)
def test_words_that_mean_nothing(typed: Type, words: list[str], message: str) -> None:
    assert message in typed(f"input={CLIP}", *words, fails=True)


# --- masks of the first frame ----------------------------------------------------------------


def test_propagation_follows_what_was_drawn(tmp_path: Path, typed: Type) -> None:
    """The left half of the clip is object 5; the unknown middle is not an object."""
    labels = np.zeros((90, 160), dtype=np.uint8)
    labels[:, :70], labels[:, 70:80] = 5, 255
    write_labels(tmp_path / "first.png", labels)
    typed(
        f"input={CLIP}", "model=features", "backbone=tiny_vit", "propagation=dino",
        "propagation.short_side=32", "propagation.multiple=8", "view=[overlay,slots]",
        f"first_mask={tmp_path / 'first.png'}",
    )  # fmt: skip
    last = read_labels(tmp_path / "out" / "dog" / "masks" / "00011.png")
    assert set(np.unique(last)) == {0, 5}
    assert (last[:, :40] == 5).mean() > 0.6
    assert (last[:, 120:] == 5).mean() < 0.4
    cells = arrange(6, (90, 160))  # the original and labels 1 to 5
    assert facts(tmp_path / "out" / "dog" / "slots.mp4")[1] == (
        cells.step[0] * cells.rows, cells.step[1] * cells.columns,
    )  # fmt: skip


def test_first_mask_and_propagation_belong_together(tmp_path: Path, typed: Type) -> None:
    write_labels(tmp_path / "m.png", np.ones((90, 160), np.uint8))
    mask, clip = f"first_mask={tmp_path / 'm.png'}", f"input={CLIP}"
    features = ["model=features", "backbone=tiny_vit", "propagation=dino"]
    assert "type propagation=dino" in typed(clip, mask, fails=True)
    assert "type first_mask=PNG" in typed(clip, *features, fails=True)
    assert "drop background=" in typed(clip, mask, *features, "background=border", fails=True)
    shutil.copytree(CLIP.parent, tmp_path / "clips")
    shutil.copy(CLIP, tmp_path / "clips" / "second.mp4")
    said = typed(f"input={tmp_path / 'clips'}", mask, *features, fails=True)
    assert "belongs to one video" in said
    assert not (tmp_path / "out").exists()


def test_first_masks_that_do_not_fit(tmp_path: Path, typed: Type) -> None:
    words = [f"input={CLIP}", "model=features", "backbone=tiny_vit", "propagation=dino"]
    words.append(f"first_mask={tmp_path / 'm.png'}")
    write_labels(tmp_path / "m.png", np.ones((90, 161), np.uint8))
    said = typed(*words, fails=True)
    assert "m.png is 90 x 161" in said
    assert "dog.mp4 is 90 x 160" in said
    write_labels(tmp_path / "m.png", np.zeros((90, 160), np.uint8))
    assert "marks no object" in typed(*words, fails=True)
    Image.new("RGB", (160, 90)).save(tmp_path / "m.png")
    assert "is a colour picture" in typed(*words, fails=True)
    (tmp_path / "m.png").unlink()
    assert "m.png" in typed(*words, fails=True)


# --- other -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["moving_shapes", "moving_shapes_mixed"])
def test_a_checkpoint_trained_on_shapes_warns(
    dataset: str, caplog: pytest.LogCaptureFixture
) -> None:
    _warn_of_other_data(running.composed("train", f"dataset={dataset}"))
    assert "real video is outside what it has seen" in caplog.text


def test_other_checkpoints_do_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_other_data(running.composed("train", "dataset=folder", "paths.data=x"))
    _warn_of_other_data(OmegaConf.create({"num_slots": 3}))
    assert not caplog.text


def test_inputs_can_be_read_twice(tmp_path: Path) -> None:
    stills(tmp_path / "seq", 3)
    for path in (CLIP, tmp_path / "seq"):
        (video,) = open_input(str(path))
        once, again = list(video.frames()), list(video.frames())
        assert len(once) == video.info.num_frames
        assert np.array_equal(once, again)
    assert video.path == tmp_path / "seq"
    assert video.info.names == ("f_0", "f_1", "f_2")


def test_frames_of_one_name_are_counted_instead(tmp_path: Path) -> None:
    stills(tmp_path / "seq", 2)
    Image.new("RGB", (11, 9)).save(tmp_path / "seq" / "f_0.bmp")
    (video,) = open_input(str(tmp_path / "seq"))
    assert video.info.names == ()
    assert video.info.frame_name(2) == "00002"
