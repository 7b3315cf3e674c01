import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import Metric
from slotreel.metrics.jf import JF
from slotreel.metrics.segmentation import Segmentation
from slotreel.protocols.protocol import Protocol, ScoreTable
from slotreel.types import Prediction

CONF = Path(__file__).parents[2] / "conf" / "protocol"
RUN = {"set_name": "memory", "image_size": (16, 24), "device": "cpu"}
PERFECT = ("fg_ari_video", "fg_ari_frame", "ari_video", "mbo_video", "mbo_frame", "j", "f", "jf")


def protocol(**changes):
    return Protocol(**{"name": "both", "metrics": [Segmentation(), JF()], **changes})


class Frames(Metric):
    """Records what it is fed."""

    def start(self, video):
        self._fed = []

    def update(self, prediction, truth, frame):
        self._fed.append((frame, prediction.shape, prediction.dtype))

    def finish(self):
        return {"frames": (float(len(self._fed)), 1.0)}


def test_perfect_prediction_scores_one(videos, perfect):
    means = protocol().run(perfect, videos, **RUN).means()
    for metric in PERFECT:
        assert means[metric] == pytest.approx(1.0), metric


def test_shards_merge_to_the_same_table(videos, make_answers):
    def noisy(video, t, frame):
        rng = np.random.default_rng((len(video.id), t))
        return Prediction(t, labels=rng.integers(1, 4, (16, 24), dtype=np.uint8))

    whole = protocol().run(make_answers(noisy), videos, **RUN)
    parts = [
        protocol().run(make_answers(noisy), videos, **RUN, rank=rank, world_size=3)
        for rank in range(3)
    ]
    assert [len(part.rows) for part in parts] == [2, 2, 1]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    assert merged.means() == whole.means()
    assert merged.to_dict() == whole.to_dict()


def test_a_rank_without_videos_has_an_empty_table(videos, perfect):
    table = protocol().run(perfect, videos, **RUN, rank=5, world_size=8)
    assert table.rows == {}
    assert table.means() == {}


def test_stop_between_videos_abandons(videos, perfect):
    polls = iter([False, False, True])
    assert protocol().run(perfect, videos, **RUN, stop=lambda: next(polls)) is None
    assert {name for name, *_ in perfect.seen} == {"v0", "v1"}


def test_model_is_evaluated_without_gradient_and_restored(videos, perfect):
    perfect.train()
    perfect.layer[1].eval()
    protocol().run(perfect, videos, **RUN)
    assert all((training, grad) == (False, False) for *_, training, grad in perfect.seen)
    assert perfect.training
    assert perfect.layer[0].training
    assert not perfect.layer[1].training
    assert torch.is_grad_enabled()


def test_model_is_restored_after_an_error(videos, make_answers):
    def broken(video, t, frame):
        raise RuntimeError("boom")

    model = make_answers(broken).train()
    with pytest.raises(RuntimeError, match="boom"):
        protocol().run(model, videos, **RUN)
    assert model.training
    assert torch.is_grad_enabled()


def test_frames_are_chunked_resized_and_limited(videos, perfect):
    done = []
    table = protocol(metrics=[Frames()], max_frames=3, frame_stride=2, chunk=2, max_videos=1).run(
        perfect,
        videos,
        **{**RUN, "image_size": 32},
        progress=lambda *count: done.append(count),
    )
    assert [shape for _, shape, *_ in perfect.seen] == [(2, 3, 32, 32), (1, 3, 32, 32)]
    assert table.rows == {"v0": {"frames": (3.0, 1.0)}}
    assert done == [(0, 1), (1, 1)]


def test_own_image_size_wins_over_the_models(videos, perfect):
    scorer = protocol(image_size=[8, 12], max_videos=1)
    scorer.run(perfect, videos, **RUN)
    assert perfect.seen[0][1] == (5, 3, 8, 12)
    assert "8x12 px" in scorer.describe(64)
    assert "64x64 px" in protocol().describe(64)


def test_soft_masks_are_upsampled_before_argmax(videos, make_answers):
    """Two cells that meet in the middle: bilinear maps cut at the pixel where they are equal."""

    def soft(video, t, frame):
        masks = torch.tensor([[[1.0, 0.1]], [[0.0, 0.4]]])  # difference 1 at left, -0.3 at right
        return Prediction(t, masks=masks)

    clip = protocol().clip(make_answers(soft), videos, 0, image_size=16, device="cpu")
    assert clip.prediction.shape == clip.truth.shape == (5, 16, 24)
    # centres of the cells are pixels 5.5 and 17.5; 1 - 1.3 x = 0 at x = 0.769, pixel 14.7
    assert clip.prediction[0, 3].tolist() == [1] * 15 + [2] * 9


def test_labels_of_another_size_take_the_nearest_pixel(videos, make_answers):
    small = np.array([[1, 2, 3]], dtype=np.uint8)
    model = make_answers(lambda video, t, frame: Prediction(t, labels=small))
    clip = protocol().clip(model, videos, 0, image_size=16, device="cpu")
    assert (clip.prediction == np.repeat([1, 2, 3], 8)).all()


def test_predictions_may_wait_for_the_whole_video(videos, perfect, make_answers):
    late = make_answers(perfect.answer, wait=True)
    assert protocol().run(late, videos, **RUN).rows == protocol().run(perfect, videos, **RUN).rows


def test_unannotated_frames_are_seen_and_not_scored(make_videos, make_answers):
    labels = np.ones((4, 8, 8), dtype=np.uint8)
    labels[:, :4] = 0
    labels[1:3] = 255
    source = make_videos({"sparse": labels})
    model = make_answers(lambda video, t, frame: Prediction(t, labels=labels[0] + 1))
    table = protocol(metrics=[Frames()]).run(model, source, **RUN)
    assert table.rows["sparse"]["frames"][0] == 2.0
    assert model.seen[0][1][0] == 4


@pytest.mark.parametrize("positions", [[0, 0, 1, 2, 3], [0, 1, 2, 3], [9, 1, 2, 3, 4]])
def test_every_frame_must_be_predicted_once(videos, make_answers, positions):
    def at(video, t, frame):
        return Prediction(positions[min(t, len(positions) - 1)], labels=np.ones((4, 4), np.uint8))

    with pytest.raises(RuntimeError, match=r"twice|without a prediction"):
        protocol().run(make_answers(at), videos, **RUN)


def test_videos_without_masks_are_refused(videos, make_videos, perfect):
    source = make_videos(videos.videos, masks=False)
    with pytest.raises(DataError, match="no masks: nothing to score"):
        protocol().run(perfect, source, **RUN)
    clip = protocol().clip(perfect, source, 1, image_size=16, device="cpu")
    assert clip.truth is None
    assert clip.prediction.shape == (6, 16, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": []}, "no metrics"),
        ({"masks": "decode"}, "did you mean: decoder"),
        ({"chunk": 0}, "chunk of at least 1"),
        ({"max_frames": 0}, "max_frames"),
        ({"image_size": [1, 2, 3]}, "image_size"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        protocol(**changes)


def test_two_metrics_of_one_name_are_refused(videos, perfect):
    with pytest.raises(ConfigError, match="two metrics report frames"):
        protocol(metrics=[Frames(), Frames()]).run(perfect, videos, **RUN)


def test_description_names_what_fixes_the_number():
    text = protocol(frame_stride=2, max_frames=7, masks="grouper").describe()
    assert "\n" not in text
    for part in ("at stride 2", "first 7 frames", "masks=grouper", "max_proposals=20", "training"):
        assert part in text
    other = protocol(metrics=[Segmentation(background="none")]).describe()
    assert other != protocol(metrics=[Segmentation()]).describe()


def table(**rows):
    return ScoreTable("set", "both", "line", rows)


def test_means_weigh_by_count_and_leave_out_what_has_none():
    scores = table(b={"j": (3.0, 3.0), "f": (1.5, 3.0), "empty": (0.0, 0.0)}, a={"j": (0.0, 1.0)})
    assert scores.means() == {"j": 0.75, "f": 0.5, "jf": 0.625}
    assert scores.counts() == {"j": 4.0, "f": 3.0, "empty": 0.0}


def test_merge_refuses_conflicts():
    one = table(a={"j": (1.0, 1.0)})
    assert one.merge(table(a={"j": (1.0, 1.0)})).rows == one.rows
    with pytest.raises(ValueError, match="scored twice"):
        one.merge(table(a={"j": (0.5, 1.0)}))
    with pytest.raises(ValueError, match="do not mix"):
        one.merge(ScoreTable("set", "other", "line"))


def test_table_survives_json():
    scores = table(a={"j": (1 / 3, 1.0)}, b={"j": (0.1, 2.0)})
    again = ScoreTable.from_dict(json.loads(json.dumps(scores.to_dict())))
    assert again == scores


@pytest.mark.parametrize("option", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_options_build_and_state_every_knob(option, videos, perfect):
    content = OmegaConf.load(option)
    built = instantiate(content, _partial_=True, _convert_="all")()
    assert built.name == option.stem
    for part, made in [(content, built), *zip(content.metrics, built.metrics, strict=True)]:
        assert set(part) == {"_target_", *inspect.signature(type(made)).parameters}
    assert built.run(perfect, videos, **RUN).means()["fg_ari_video"] == 1.0
    assert option.read_text().startswith(f"# ./train.py protocol={option.stem}")
