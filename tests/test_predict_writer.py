import av
import numpy as np
import pytest
import torch
from PIL import Image

from slotreel.baselines.trivial import Blocks, ForegroundOracle, KeepFirst
from slotreel.baselines.video_kmeans import RgbKmeans
from slotreel.data.image_io import davis_palette, read_labels
from slotreel.errors import DataError
from slotreel.inference import writer
from slotreel.inference.background import BackgroundRule
from slotreel.inference.predict import predict_video
from slotreel.inference.writer import Drawing
from slotreel.interfaces import Objective, Stream
from slotreel.types import Prediction, VideoInfo

SIZE = (20, 30)


class Halves(Objective):
    """Two slots: left and right, on a 2x4 grid; slots count the frames."""

    def __init__(self, positions=None):
        super().__init__()
        self.positions = positions

    def training_step(self, batch, progress):
        raise NotImplementedError

    def stream(self, video, *, masks="auto"):
        return HalvesStream(self.positions)


class HalvesStream(Stream):
    def __init__(self, positions):
        self.count, self.positions, self.sizes = 0, positions, []

    def push(self, frames, hints=None):
        left = torch.tensor([0.9, 0.6, 0.4, 0.1]).expand(2, 4)
        ready = []
        for _ in frames:
            t = self.count if self.positions is None else self.positions[self.count]
            slots = torch.full((2, 3), float(self.count))
            ready.append(Prediction(t, masks=torch.stack([left, 1 - left]), slots=slots))
            self.count += 1
        return ready


def frames(num_frames, size=SIZE):
    for t in range(num_frames):
        yield np.full((*size, 3), t, dtype=np.uint8)


def run(model, output, num_frames, name="clip", announced=None, **options):
    info = VideoInfo(name, num_frames if announced is None else announced, SIZE)
    settings = {"image_size": (16, 24), "device": "cpu", **options}
    return predict_video(model, lambda: frames(num_frames), info, output, **settings)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_everything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SLOT_FRAMES", 4)
    seen = []
    written = run(Halves(), tmp_path, 10, chunk=3, progress=lambda *x: seen.append(x))
    assert written == (tmp_path / "clip", 10)
    assert seen[:5] == [(3, 0), (3, 1), (3, 2), (3, 3), (6, 3)]
    assert seen[-1] == (10, 10)
    assert files(written.folder) == [
        *(f"masks/{t:05d}.png" for t in range(10)),
        "overlay.mp4",
        *(f"slots/{t:06d}.npz" for t in (0, 4, 8)),
    ]
    labels = read_labels(written.folder / "masks" / "00009.png")
    assert labels.shape == SIZE
    assert (labels[:, :15] == 1).all()
    assert (labels[:, 15:] == 2).all()
    with Image.open(written.folder / "masks" / "00000.png") as image:
        assert image.mode == "P"
        assert (np.array(image.getpalette()).reshape(-1, 3)[:3] == davis_palette()[:3]).all()
    with np.load(written.folder / "slots" / "000008.npz") as stored:
        assert stored["frames"].tolist() == [8, 9]
        assert stored["slots"].shape == (2, 2, 3)
        assert stored["slots"].dtype == np.float32
        assert stored["masks"].shape == (2, 2, 2, 4)
        assert stored["masks"].dtype == np.float16
        assert stored["slots"][1, 0, 0] == 9
    with av.open(str(written.folder / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_streaming_holds_one_chunk(tmp_path):
    """Frames are read only as fast as they are written."""
    ahead = []

    def counted():
        for t, frame in enumerate(frames(40)):
            ahead.append(t - len(list((tmp_path / "clip" / "masks").glob("*.png"))))
            yield frame

    info = VideoInfo("clip", 40, SIZE)
    predict_video(Halves(), counted, info, tmp_path, image_size=(16, 24), device="cpu", chunk=4)
    assert max(ahead) < 4


@pytest.mark.parametrize("model", [Blocks, RgbKmeans])
def test_models_without_slots_write_masks_and_overlay(tmp_path, model):
    run(Halves(), tmp_path, 12)
    written = run(model(num_slots=3), tmp_path, 6)
    expected = [*(f"masks/{t:05d}.png" for t in range(6)), "overlay.mp4"]
    assert files(written.folder) == expected  # what the longer run left is gone


@pytest.mark.parametrize(("late", "opened"), [(9, 1), (20, 2)])
def test_frames_are_read_again_instead_of_kept(tmp_path, late, opened):
    """A model that answers ``late`` frames later gets the right frame beside each answer."""
    opens, shown = [], []

    class Late(HalvesStream):
        def __init__(self):
            super().__init__(None)
            self.held = []

        def push(self, pushed, hints=None):
            self.held += super().push(pushed)
            ready, self.held = self.held[:-late], self.held[-late:]
            return ready

        def finish(self):
            return self.held

    def counted():
        opens.append(1)
        return frames(30)

    model = Halves()
    model.stream = lambda video, masks="auto": Late()
    draw = {"overlay": lambda *_: lambda frame, *rest: shown.append(frame[0, 0, 0]) or frame}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slotreel.inference.views.VIEWS", draw)
        predict_video(
            model, counted, VideoInfo("a", 30, SIZE), tmp_path,
            image_size=(4, 4), device="cpu", chunk=3,
        )  # fmt: skip
    assert shown == list(range(30))
    assert len(opens) == opened


def test_a_file_that_shrinks_meanwhile_is_noticed(tmp_path):
    lengths = iter([30, 7])
    with pytest.raises(DataError, match="had frame 7 when it was read first"):
        predict_video(
            RgbKmeans(num_slots=2), lambda: frames(next(lengths)), VideoInfo("a", 30, SIZE),
            tmp_path, image_size=(4, 4), device="cpu", chunk=2,
        )  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_the_background_rule_does_not_see_chunks(tmp_path, chunk):
    """Slot 0 covers the left 18 of 30 columns: dropped, from the first frame to the last."""

    class Wide(HalvesStream):
        def push(self, pushed, hints=None):
            left = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]).expand(1, 5)
            return [p._replace(masks=torch.stack([left, 1 - left])) for p in super().push(pushed)]

    model = Halves()
    model.stream = lambda video, masks="auto": Wide(None)
    written = run(model, tmp_path, 12, chunk=chunk, background=BackgroundRule("largest"))
    for t in range(12):
        labels = read_labels(written.folder / "masks" / f"{t:05d}.png")
        assert (labels == np.where(np.arange(30) < 18, 0, 2)).all()


def test_masks_are_named_after_frames_that_are_files(tmp_path):
    def named(*names):
        info = VideoInfo("a", len(names), SIZE, names)
        model = Blocks(num_slots=2)
        predict_video(
            model, lambda: frames(len(names)), info, tmp_path, image_size=(4, 4), device="cpu"
        )

    folder = tmp_path / "a" / "masks"
    named("left_08", "left_09", "left_10")
    (folder / "mine.png").touch()
    named("left_08", "left_09")
    assert files(folder) == ["left_08.png", "left_09.png", "mine.png"]


def test_propagation_starts_from_the_first_masks(tmp_path):
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[4:9, 3:20], labels[12:] = 7, 2
    written = run(KeepFirst(num_slots=2), tmp_path, 5, chunk=2, first_labels=labels)
    assert (read_labels(written.folder / "masks" / "00004.png") == labels).all()
    with pytest.raises(DataError, match="first_mask=PNG"):
        run(KeepFirst(num_slots=2), tmp_path, 5)


def test_the_first_label_is_that_of_the_model(tmp_path):
    class FromZero(HalvesStream):
        def push(self, pushed, hints=None):
            return [p._replace(first_label=0) for p in super().push(pushed)]

    model = Halves()
    model.stream = lambda video, masks="auto": FromZero(None)
    written = run(model, tmp_path, 2, drawing=Drawing(("overlay", "slots")))
    labels = read_labels(written.folder / "masks" / "00001.png")
    assert (labels == (np.arange(30) >= 15)).all()


def test_the_model_is_restored(tmp_path):
    model = Halves().train()
    run(model, tmp_path, 2)
    assert model.training
    assert torch.is_grad_enabled()


def test_no_frames(tmp_path):
    with pytest.raises(DataError, match="has no frames"):
        run(Halves(), tmp_path, 0)
    assert files(tmp_path) == []
    assert not (tmp_path / "clip").exists()


def test_fewer_frames_than_announced(tmp_path):
    with pytest.raises(DataError, match="expected 9 frames, could read 5"):
        run(Halves(), tmp_path, 5, announced=9)
    assert "overlay.mp4" not in files(tmp_path / "clip")


def test_frames_of_another_size(tmp_path):
    def mixed():
        yield from frames(3)
        yield from frames(1, (20, 31))

    with pytest.raises(DataError, match="frame 3"):
        predict_video(
            Halves(), mixed, VideoInfo("a", 4, SIZE), tmp_path, image_size=(4, 4), device="cpu"
        )


@pytest.mark.parametrize("name", ["../up", "/tmp/away", "", "."])
def test_a_name_cannot_lead_out_of_the_output(tmp_path, name):
    with pytest.raises(DataError, match="rename it"):
        run(Halves(), tmp_path, 2, name=name)


def test_oracles_cannot_predict(tmp_path):
    with pytest.raises(DataError, match="copies the truth"):
        run(ForegroundOracle(num_slots=2), tmp_path, 2)


def test_predictions_must_come_once_and_in_order(tmp_path):
    with pytest.raises(RuntimeError, match="expected a prediction of frame 1"):
        run(Halves(positions=[0, 2, 1]), tmp_path, 3)


def test_a_missing_prediction_is_noticed(tmp_path):
    class Lazy(HalvesStream):
        def push(self, pushed, hints=None):
            return super().push(pushed)[:-1]

    model = Halves()
    model.stream = lambda video, masks="auto": Lazy(None)
    with pytest.raises(RuntimeError, match="without a prediction"):
        run(model, tmp_path, 4)
