import av
import numpy as np
import pytest
import torch
from PIL import Image

from slotreel.baselines.trivial import Blocks, ForegroundOracle
from slotreel.baselines.video_kmeans import RgbKmeans
from slotreel.data.image_io import davis_palette, read_labels
from slotreel.errors import DataError
from slotreel.inference import predict
from slotreel.inference.predict import predict_video
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
    return predict_video(model, frames(num_frames), info, output, **settings)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_everything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "SLOT_FRAMES", 4)
    seen = []
    written = run(Halves(), tmp_path, 10, chunk=3, fps=5, progress=lambda *x: seen.append(x))
    assert written == (tmp_path / "clip", 10)
    assert seen == [(3, 10), (6, 10), (9, 10), (10, 10), (10, 10)]
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
    predict_video(Halves(), counted(), info, tmp_path, image_size=(16, 24), device="cpu", chunk=4)
    assert max(ahead) < 4


@pytest.mark.parametrize("model", [Blocks, RgbKmeans])
def test_models_without_slots_write_masks_and_overlay(tmp_path, model):
    run(Halves(), tmp_path, 12)
    written = run(model(num_slots=3), tmp_path, 6)
    expected = [*(f"masks/{t:05d}.png" for t in range(6)), "overlay.mp4"]
    assert files(written.folder) == expected  # what the longer run left is gone


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
            Halves(), mixed(), VideoInfo("a", 4, SIZE), tmp_path, image_size=(4, 4), device="cpu"
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
