import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from slotreel.baselines.trivial import (
    TRIVIAL_ROWS,
    Blocks,
    ForegroundOracle,
    KeepFirst,
    OneSlot,
    RandomLabels,
)
from slotreel.baselines.video_kmeans import FeatureKmeans, RgbKmeans, assign, fit_centres
from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import Backbone
from slotreel.metrics.segmentation import Segmentation
from slotreel.protocols.protocol import Protocol
from slotreel.streaming import hard_labels
from slotreel.types import FrameFeatures, VideoInfo

CONF = Path(__file__).parents[2] / "conf" / "model"
ROWS = {
    "one_slot": OneSlot,
    "random": RandomLabels,
    "fg_bg": ForegroundOracle,
    "blocks": Blocks,
    "rgb_kmeans": RgbKmeans,
    "feature_kmeans": FeatureKmeans,
    "keep_first": KeepFirst,
}
RUN = {"set_name": "memory", "image_size": (16, 24), "device": "cpu"}


class Cells(Backbone):
    """Mean colour of 2x2 pixels, without parameters."""

    feature_width = 3

    def grid(self, image_size):
        return image_size[0] // 2, image_size[1] // 2

    def forward(self, video, want=frozenset()):
        pooled = torch.nn.functional.avg_pool2d(video.flatten(0, 1), 2)
        tokens = pooled.flatten(2).transpose(1, 2).unflatten(0, video.shape[:2])
        return FrameFeatures(tokens, (pooled.shape[-2], pooled.shape[-1]))


def make(name, num_slots=4, seed=0):
    options = {"backbone": Cells()} if ROWS[name].uses_backbone else {}
    return ROWS[name](num_slots=num_slots, seed=seed, **options)


def means(name, videos, **options):
    protocol = Protocol(name="discovery", metrics=[Segmentation()])
    return protocol.run(make(name, **options), videos, **RUN).means()


def labels_of(model, frames, video="a", chunk=3):
    """Label maps (T, H, W) of frames (T, 3, H, W) pushed in chunks."""
    stream = model.stream(VideoInfo(video, len(frames), tuple(frames.shape[-2:])))
    ready = [p for part in frames.split(chunk) for p in stream.push(part)] + [*stream.finish()]
    assert [p.frame for p in ready] == list(range(len(frames)))
    return np.stack([hard_labels(p, tuple(frames.shape[-2:])) for p in ready])


def test_options_and_rows_agree():
    assert list(TRIVIAL_ROWS) == list(ROWS)
    for name, row in ROWS.items():
        option = OmegaConf.load(CONF / f"{name}.yaml")
        assert option._target_ == f"{row.__module__}.{row.__name__}"
        text = (CONF / f"{name}.yaml").read_text()
        assert text.startswith(f"# ./eval.py model={name}\n")
        assert row.uses_backbone == ("backbone" in inspect.signature(row).parameters)


def test_the_first_frame_is_kept_without_its_void():
    given = np.array([[[0, 3], [255, 1]]], dtype=np.uint8)
    stream = KeepFirst(num_slots=2).stream(VideoInfo("a", 3, (2, 2)))
    ready = stream.push(torch.rand(2, 3, 2, 2), {"labels": given})
    ready += stream.push(torch.rand(1, 3, 2, 2))
    assert [p.frame for p in ready] == [0, 1, 2]
    for prediction in ready:
        assert hard_labels(prediction, (2, 2)).tolist() == [[0, 3], [0, 1]]
    points = np.ones((1, 4, 2))
    stream = KeepFirst(num_slots=2).stream(VideoInfo("a", 1, (2, 2)))
    (only,) = stream.push(torch.rand(1, 3, 2, 2), {"keypoints": points})
    assert (only.points == points[0]).all()


@pytest.mark.parametrize("name", ROWS)
def test_nothing_to_train(name):
    model = make(name)
    assert not model.trainable
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(ConfigError, match=r"nothing to train.*\./eval\.py model=blocks"):
        model.training_step(None, None)


@pytest.mark.parametrize("num_slots", [0, 255])
def test_slots_must_fit_a_label_map(num_slots):
    with pytest.raises(ConfigError, match=r"1\.\.254"):
        OneSlot(num_slots=num_slots)


def test_one_slot_has_no_fg_ari(videos):
    scores = means("one_slot", videos)
    assert scores["fg_ari_video"] == scores["fg_ari_frame"] == scores["ari_video"] == 0.0


def test_random_labels_have_none_either(make_videos):
    labels = np.zeros((6, 64, 64), dtype=np.uint8)
    labels[:, 5:40, 5:30], labels[:, 20:60, 35:60] = 1, 2
    scores = means("random", make_videos({"big": labels}))
    assert abs(scores["ari_video"]) < 0.002
    assert abs(scores["fg_ari_video"]) < 0.002


def test_random_labels_depend_on_seed_video_and_frame_only():
    frames = torch.rand(7, 3, 8, 8)
    labels = labels_of(make("random"), frames)
    assert set(np.unique(labels)) == {1, 2, 3, 4}
    assert (labels == labels_of(make("random"), frames, chunk=7)).all()
    assert (labels != labels_of(make("random"), frames, video="b")).any()
    assert (labels != labels_of(make("random", seed=1), frames)).any()
    assert (labels[0] != labels[1]).any()


def test_oracle_parts_objects_from_background_only(videos):
    scores = means("fg_bg", videos)
    assert scores["fg_ari_video"] == 0.0
    assert 0.5 < scores["ari_video"] < 1.0


def test_oracle_of_one_object_is_perfect_and_ignores_void(make_videos):
    labels = np.zeros((3, 16, 24), dtype=np.uint8)
    labels[:, 4:9, 4:9], labels[:, 0] = 3, 255
    scores = means("fg_bg", make_videos({"one": labels}))
    assert scores["ari_video"] == scores["mbo_video"] == 1.0


def test_oracle_needs_masks(videos, make_videos):
    with pytest.raises(DataError, match="copies them"):
        means("fg_bg", make_videos(videos.videos, masks=False))


def test_blocks_are_the_same_in_all_frames_of_all_videos():
    labels = labels_of(make("blocks"), torch.rand(5, 3, 16, 24))
    assert (labels == labels[0]).all()
    assert set(np.unique(labels)) == {1, 2, 3, 4}
    assert (labels == labels_of(make("blocks"), torch.rand(5, 3, 16, 24), video="b")).all()
    sizes = np.bincount(labels[0].ravel())[1:]
    assert sizes.min() > 0.5 * sizes.max()


@pytest.mark.parametrize("name", ["rgb_kmeans", "feature_kmeans"])
def test_kmeans_finds_objects_of_their_own_colour(videos, name):
    scores = means(name, videos, num_slots=3)
    assert scores["fg_ari_video"] > (0.999 if name == "rgb_kmeans" else 0.6)


@pytest.mark.parametrize("name", ["rgb_kmeans", "feature_kmeans"])
def test_kmeans_is_one_clustering_per_video_and_repeatable(name):
    frames = torch.rand(7, 3, 16, 24)
    labels = labels_of(make(name), frames)
    assert (labels == labels_of(make(name), frames, chunk=7)).all()
    frames[3:] = frames[0]  # the same picture gets the same labels at any time
    labels = labels_of(make(name), frames)
    assert (labels[3:] == labels[0]).all()


@pytest.mark.parametrize("name", ["rgb_kmeans", "feature_kmeans"])
def test_kmeans_of_a_flat_or_empty_video(name):
    assert (labels_of(make(name), torch.zeros(2, 3, 4, 4)) == 1).all()
    assert list(make(name).stream(VideoInfo("none", 0, (4, 4))).finish()) == []


def test_centres_of_a_sample_serve_all_points():
    """More points than are fitted: two far groups must come out exactly."""
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, (3, 100, 100))
    points = (side[..., None] * 10 + rng.normal(size=(3, 100, 100, 2))).astype(np.float16)
    centres = fit_centres(list(points), 2, seed=3)
    assert centres.dtype == np.float32
    assert sorted(centres.mean(1).round()) == [0.0, 10.0]
    labels = np.stack([assign(frame, centres) for frame in points])
    assert len(set(zip(side.ravel().tolist(), labels.ravel().tolist(), strict=True))) == 2
