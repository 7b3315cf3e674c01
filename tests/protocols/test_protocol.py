import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slotreel.assemble import build_objective, make
from slotreel.backbones.patches import PatchPixels
from slotreel.backbones.small_cnn import SmallCNN
from slotreel.baselines.trivial import KeepFirst
from slotreel.errors import ConfigError, DataError
from slotreel.features_only import FeaturesOnly
from slotreel.inference.tracks import Tracks
from slotreel.interfaces import Metric
from slotreel.metrics.jf import JF
from slotreel.metrics.segmentation import Segmentation
from slotreel.metrics.single_object import SingleObject
from slotreel.protocols.framing import centre_square
from slotreel.protocols.protocol import Protocol, ScoreTable
from slotreel.protocols.score_table import VideoFacts
from slotreel.types import Prediction, VideoInfo
from tests import running
from tests.protocols.conftest import scene

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
        ({"crop": "center"}, "did you mean: centre_square"),
        ({"compare": "frames"}, "choose one of|did you mean|truth"),
        ({"remainder": "dropp"}, "did you mean: drop"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"window": 0}, "window of at least 1"),
        ({"background": "biggest"}, "largest"),
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


def composed_protocol(name):
    return running.composed("eval", f"protocol={name}").protocol


@pytest.mark.parametrize("option", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_options_build_and_state_every_knob(option):
    content = composed_protocol(option.stem)
    built = make(content)()
    assert built.name == option.stem
    for part, made in [(content, built), *zip(content.metrics, built.metrics, strict=True)]:
        assert set(part) == {"_target_", *inspect.signature(type(made)).parameters}
    assert option.read_text().startswith(f"# ./train.py protocol={option.stem} ")
    assert (running.CONF / "validate" / f"{option.stem}.yaml").is_file() == (
        option.stem
        not in ("discovery", "discovery_image", "vos", "foreground", "corloc", "slot_jf")
    ), "a protocol of a paper or benchmark has validate=NAME; the general ones do not"


@pytest.mark.parametrize(
    "name", ["discovery", "vos", "discovery_video", "discovery_video_ytvis", "discovery_chunks6"]
)
def test_a_perfect_model_scores_one_under_every_protocol_of_discovery(
    name, make_videos, make_answers
):
    videos = make_videos({"a": scene(12, 0), "b": scene(13, 1)})

    def right(video, t, frame):
        name, _, start = video.id.partition("@")
        labels = videos.videos[name][int(start or 0) + t] + 1
        return Prediction(t, labels=centre_square(labels[None])[0] if "ytvis" in kind else labels)

    kind = "ytvis" if name in ("discovery_video_ytvis", "discovery_chunks6") else name
    content = composed_protocol(name)
    content.compare = "truth"  # the toy's truth is smaller than what the model sees
    means = make(content)().run(make_answers(right), videos, **RUN).means()
    assert means["fg_ari_video"] == pytest.approx(1.0)
    assert means["mbo_video"] == pytest.approx(1.0)


def test_windows_start_anew_and_are_scored_apart(make_videos, make_answers):
    """Labels that swap at the window's border: windows are perfect, the video is not."""
    labels = scene(12, 0)
    videos = make_videos({"a": labels})
    swap = np.array([1, 3, 2], dtype=np.uint8)

    def answer(video, t, frame):
        start = int(video.id.partition("@")[2] or 0)
        here = start + t
        return Prediction(t, labels=swap[labels[here]] if here >= 6 else labels[here] + 1)

    whole = protocol().run(make_answers(answer), videos, **RUN)
    model = make_answers(answer)
    parts = protocol(window=6).run(model, videos, **RUN)
    assert whole.means()["fg_ari_video"] < 0.2
    assert parts.means()["fg_ari_video"] == pytest.approx(1.0)
    assert parts.counts()["fg_ari_video"] == 2
    assert [name for name, *_ in model.seen] == ["a@0", "a@6"]
    assert whole.facts["a"][:2] == parts.facts["a"][:2] == (12, 2)


def test_frames_that_complete_a_window_are_not_scored(make_videos, make_answers):
    videos = make_videos({"a": scene(10, 0)})
    model = make_answers(lambda video, t, frame: Prediction(t, labels=np.ones((16, 24), np.uint8)))
    frames = {"keep": 10, "drop": 8, "complete": 10}
    for remainder, count in frames.items():
        model.seen.clear()
        scorer = protocol(metrics=[Frames()], window=4, remainder=remainder, chunk=4)
        table = scorer.run(model, videos, **RUN)
        assert table.rows["a"]["frames"][0] == count
        pushed = sum(shape[0] for _, shape, *_ in model.seen)
        assert pushed == {"keep": 10, "drop": 8, "complete": 12}[remainder]


def test_the_background_slot_is_dropped_before_scoring(make_videos, make_answers):
    labels = scene(5, 0)
    videos = make_videos({"a": labels})
    model = make_answers(lambda video, t, frame: Prediction(t, labels=labels[t] + 1))
    seen = []
    kept = protocol(metrics=[SingleObject()])
    dropped = protocol(metrics=[SingleObject()], background="border")
    assert kept.run(model, videos, **RUN).means()["j_fg"] < 0.5
    table = dropped.run(
        model, videos, **RUN, save=lambda video, frame: seen.append((video.id, frame.frame))
    )
    assert table.means()["j_fg"] == 1.0
    assert seen == [("a", t) for t in range(5)]


def test_a_void_frame_is_scored_and_an_unannotated_one_is_not(make_videos, make_answers):
    labels = scene(5, 0)
    labels[2] = 255
    model = make_answers(lambda video, t, frame: Prediction(t, labels=np.ones((16, 24), np.uint8)))
    videos = make_videos({"a": labels})
    assert protocol(metrics=[Frames()]).run(model, videos, **RUN).rows["a"]["frames"][0] == 5
    videos.annotated = np.array([True, True, False, True, True])
    table = protocol(metrics=[Frames()]).run(model, videos, **RUN)
    assert table.rows["a"]["frames"][0] == 4
    assert table.facts["a"] == VideoFacts(4, 2)


def test_what_breaks_the_protocol_names_the_video(make_videos, make_answers):
    model = make_answers(
        lambda video, t, frame: Prediction(t, labels=np.full((16, 24), 30, np.uint8))
    )
    with pytest.raises(DataError, match=r"protocol both: .*'clip'.*20"):
        protocol().run(model, make_videos({"clip": scene(5, 0)}), **RUN)


def test_only_what_is_conditional_sees_the_first_frame(make_videos):
    labels = scene(4, 0)
    videos = make_videos({"a": labels})
    still = KeepFirst(num_slots=2)
    table = protocol(metrics=[JF(matching="identity")]).run(still, videos, **RUN)
    assert 0 < table.means()["j"] < 1
    videos.annotated = np.array([False, True, True, True])
    with pytest.raises(DataError, match="starts from the truth of the first frame"):
        protocol(metrics=[JF(matching="identity")]).run(still, videos, **RUN)


def test_models_with_features_are_read_through(videos, make_answers):
    class Through(nn.Module):
        def __init__(self, objective):
            super().__init__()
            self.objective = objective

    scorer = protocol(through=Through)
    features = FeaturesOnly(backbone=PatchPixels())
    assert scorer.scored(features).objective is features
    plain = make_answers(lambda video, t, frame: Prediction(t))
    assert scorer.scored(plain) is plain
    assert protocol().scored(features) is features
    assert "through Through" in scorer.describe()


class Reading(FeaturesOnly):
    """Predicts in which frames the normalised top left pixel is above 0."""

    def stream(self, video, *, masks="auto"):
        return self

    def push(self, frames, hints=None):
        tokens = self.backbone(frames[None]).tokens[0, :, 0, 0]
        labels = [np.full((16, 24), 1 + int(value > 0), np.uint8) for value in tokens]
        return [Prediction(t, labels=x) for t, x in enumerate(labels)]

    def finish(self):
        return []


def test_a_protocol_may_normalise_pixels_its_own_way(make_videos, make_answers):
    videos = make_videos({"a": scene(4, 0)})  # the background is 20 / 255, far below 0.5
    model = Reading(backbone=PatchPixels())
    own = model.backbone.normalise.mean
    seen = []

    def look(**changes):
        seen.clear()
        protocol(image_size=[16, 24], **changes).run(
            model, videos, **RUN, save=lambda video, frame: seen.append(int(frame.labels[0, 0]))
        )
        return set(seen)

    assert look() == {1}
    assert look(normalisation={"mean": [0.01] * 3, "std": [1.0] * 3}) == {2}
    assert model.backbone.normalise.mean is own
    model.backbone = SmallCNN(image_size=(16, 24))
    with pytest.raises(ConfigError, match=r"type protocol\.normalisation=null"):
        look(normalisation={"mean": [0.1] * 3, "std": [1.0] * 3})


def test_a_protocol_may_change_the_rounds_of_the_grouper(make_videos, monkeypatch):
    videos = make_videos({"a": scene(2, 0)})
    model, crossed = (
        build_objective(running.composed("train", "image_size=32", f"grouper={name}"))
        for name in ("slot_attention", "cross_attention")
    )
    own = model.model.grouper.num_iters
    seen = []
    monkeypatch.setattr(
        type(model.model.grouper),
        "confidence",
        lambda self, slots, levels: seen.append(self.num_iters),
    )
    protocol(num_iters=5, masks="grouper").run(model, videos, **RUN | {"image_size": (32, 32)})
    assert set(seen) == {5}
    assert model.model.grouper.num_iters == own != 5
    assert "5 rounds of the grouper" in protocol(num_iters=5).describe()
    protocol(num_iters=5, masks="grouper").run(crossed, videos, **RUN | {"image_size": (32, 32)})
    assert crossed.model.grouper.num_iters is None


def test_a_protocol_may_link_slots(make_videos, make_answers):
    """Slots that change places score as if they had not."""
    videos = make_videos({"a": scene(4, 0)})
    truth = torch.as_tensor(videos.videos["a"]).long()

    def swapping(video, t, frame):
        masks = torch.nn.functional.one_hot(truth[t], 3).permute(2, 0, 1).float()
        return Prediction(t, masks=masks.roll(t, dims=0))

    plain = protocol().run(make_answers(swapping), videos, **RUN).means()
    linked = protocol(tracks=Tracks).run(make_answers(swapping), videos, **RUN).means()
    assert linked["mbo_video"] == pytest.approx(1.0)
    assert plain["mbo_video"] < 0.9
    assert linked["mbo_frame"] == pytest.approx(plain["mbo_frame"])
    assert "Tracks()" in protocol(tracks=Tracks).describe()


def test_parts_of_a_score_are_averaged():
    scores = table(a={"pck/one": (1.0, 2.0), "pck/two": (3.0, 3.0)}, b={"pck/one": (2.0, 2.0)})
    assert scores.means() == {"pck": (0.75 + 1.0) / 2}
    assert scores.parts() == {"pck/one": 0.75, "pck/two": 1.0}
    assert scores.counts() == {"pck": 2.0}


def test_only_masks_of_instances_carry_the_confidence_of_the_grouper():
    model = build_objective(
        running.composed(
            "train", "image_size=32", "grouper=smtc", "losses=ss_contrastive", "projector=mlp2"
        )
    )
    frames = torch.rand(3, 3, 32, 32)
    video = VideoInfo("a", 3, (32, 32))
    for masks in ("grouper", "instance", "semantic", "decoder"):
        stream = model.eval().stream(video, masks=masks)
        for said in [*stream.push(frames), *stream.finish()]:
            assert (said.scores is not None) == (masks in ("grouper", "instance"))
            assert said.scores is None or len(said.scores) == len(said.masks)
