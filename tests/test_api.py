"""The Python door: the same numbers as the commands, and no trace in the caller's program."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from omegaconf import OmegaConf

import slotreel
from slotreel import api, frozen
from slotreel.data.image_io import read_labels
from slotreel.data.inputs import open_input
from slotreel.errors import CheckpointError, ConfigError, DataError
from slotreel.predicting import predict
from slotreel.training.checkpoint import checkpoint_path, save_atomic
from tests import running

CLIP = running.ROOT / "tests" / "data" / "clips" / "dog.mp4"
DRAWS = "initializer=gaussian"  # masks depend on the video's name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run below, as a user has it."""
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("api") / "runs"
    one = slotreel.compose(*running.TINY, DRAWS, device="cpu")
    state, references = frozen.split(one.objective)
    content = {"objective": state, "frozen": references, "config": OmegaConf.to_yaml(one.config)}
    save_atomic(checkpoint_path(runs / "first", 2), {"step": 2, **content})
    (runs / "latest").symlink_to("first")
    return runs.parent


@pytest.fixture(scope="module")
def model(home: Path) -> api.VideoModel:
    return slotreel.load(home / "runs" / "latest", device="cpu")


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), dtype=np.uint8)


def same(a: api.Segments, b: api.Segments) -> None:
    for name, x, y in zip(a._fields, a, b, strict=True):
        assert x is not None, name
        assert torch.equal(x, y), name


def test_examples_of_the_docstrings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    found = [test for test in doctest.DocTestFinder().find(api) if test.examples]
    assert sorted(test.name for test in found) == [
        "slotreel.api.VideoModel", "slotreel.api.compose", "slotreel.api.load",
    ]  # fmt: skip
    runner = doctest.DocTestRunner()
    said: list[str] = []
    for test in found:
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


def test_a_call_gives_what_the_predict_command_writes(
    home: Path, model: api.VideoModel, tmp_path: Path
) -> None:
    typed = [f"checkpoint={home / 'runs' / 'first'}", f"input={CLIP}", "device=cpu", "view=[]"]
    predict(running.composed("predict", *typed, f"output={tmp_path}"))
    (given,) = open_input(str(CLIP))
    out = model(np.stack(list(given.frames())), name="dog", chunk=5)
    masks = sorted((tmp_path / "dog" / "masks").iterdir())
    np.testing.assert_array_equal(out.labels, np.stack([read_labels(path) for path in masks]))
    (file,) = (tmp_path / "dog" / "slots").iterdir()
    stored = np.load(file)
    np.testing.assert_array_equal(out.slots, stored["slots"])
    grid = torch.from_numpy(stored["masks"]).float()
    large = torch.nn.functional.interpolate(grid, out.labels.shape[1:], mode="bilinear")
    torch.testing.assert_close(out.masks, large, atol=1e-3, rtol=0)  # stored as half precision
    other = model(np.stack(list(given.frames())), name="cat")
    assert not torch.equal(out.slots, other.slots)


def test_one_result_whatever_holds_the_pixels(model: api.VideoModel, video: np.ndarray) -> None:
    out = model(video)
    assert (out.labels == out.masks.argmax(1) + 1).all()
    assert out.labels.dtype == torch.uint8
    same(out, model(torch.from_numpy(video)))
    same(out, model(video.astype(np.float32) / 255))
    same(out, model(video[::-1].copy()[::-1], chunk=2))
    locked = video.copy()
    locked.flags.writeable = False
    same(out, model(locked))
    frames = list(model.stream(video))
    same(out, api.Segments(*(torch.stack(parts) for parts in zip(*frames, strict=True))))


def test_videos_of_a_batch_are_segmented_by_themselves(
    model: api.VideoModel, video: np.ndarray
) -> None:
    two = torch.from_numpy(np.stack([video, video[:, ::-1]])).permute(0, 1, 4, 2, 3)
    out = model(two.float() / 255)
    assert out.masks.shape == (2, 5, 6, 24, 40)
    for b, one in enumerate((video, video[:, ::-1])):
        same(api.Segments(*(x[b] for x in out)), model(one))


def test_a_stream_reads_no_further_than_its_chunk(model: api.VideoModel, video: np.ndarray) -> None:
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield video[read % 5]

    stream = model.stream(endless(), chunk=3)
    for frame in range(1, 8):
        next(stream)
        assert read == -(-frame // 3) * 3
        assert torch.is_grad_enabled()
    at_the_end = slotreel.compose("model=rgb_kmeans", device="cpu").stream(video)
    assert [frame.masks for frame in at_the_end] == [None] * 5


def test_the_callers_own_hydra_and_draws_stay_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GlobalHydra.instance().clear()
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(tmp_path), version_base="1.2"):
        mine = GlobalHydra.instance().hydra
        config, version = HydraConfig.instance().cfg, VersionBase.instance().getbase()
        draws = torch.get_rng_state()
        one = slotreel.compose("num_slots=3", DRAWS, "seed=4", device="cpu")
        with pytest.raises(ConfigError, match="there is no key num_slot; did you mean: num_slots"):
            slotreel.compose("num_slot=3")
        assert GlobalHydra.instance().hydra is mine
        assert HydraConfig.instance().cfg is config
        assert VersionBase.instance().getbase() == version
        assert torch.equal(torch.get_rng_state(), draws)
    two = slotreel.compose("num_slots=3", DRAWS, "seed=4", device="cpu")
    for name, value in one.objective.state_dict().items():
        assert torch.equal(value, two.objective.state_dict()[name]), name


def test_refusals_say_what_to_do(model: api.VideoModel, video: np.ndarray, tmp_path: Path) -> None:
    pixels = video.astype(np.float32)
    for bad, words in (
        (video[..., 0], r"\(T, H, W, 3\) or a batch of videos"),
        (video[:0], "at least one frame"),
        (pixels, "divide by 255"),
        (pixels * np.nan, "nan"),
        (video.astype(np.int64), "expected uint8"),
    ):
        with pytest.raises(DataError, match=words):
            model(bad)
    with pytest.raises(DataError, match="one size"):
        list(model.stream([video[0], video[0, :9]]))
    with pytest.raises(DataError, match="empty video"):
        list(model.stream([]))
    with pytest.raises(CheckpointError, match="no run or checkpoint"):
        slotreel.load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="starts from true masks"):
        slotreel.compose("model=keep_first", device="cpu")


def test_import_is_light_and_little_is_public() -> None:
    assert sorted(slotreel.__all__) == ["__version__", "compose", "load"]
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        slotreel.train  # noqa: B018
    said = "import slotreel, sys; assert not {'torch', 'hydra'} & set(sys.modules)"
    here = {**running.environment(), "PYTHONPATH": str(running.ROOT / "src")}
    subprocess.run([sys.executable, "-c", said], check=True, env=here)
