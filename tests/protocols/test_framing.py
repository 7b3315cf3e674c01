import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotreel.errors import ConfigError
from slotreel.protocols.framing import centre_square, parse_framing
from slotreel.protocols.windows import plan_windows
from slotreel.streaming import hard_labels, model_input
from slotreel.types import Prediction, RawClip, VideoInfo


def framing(**changes):
    base = {"image_size": None, "interpolation": "bilinear", "antialias": True, "crop": "whole"}
    return parse_framing(**{**base, "compare": "truth", **changes})


def test_the_centre_square_leaves_out_both_sides_alike():
    images = np.arange(7)[None, None].repeat(3, 1)  # (1, 3, 7)
    assert centre_square(images)[0, 0].tolist() == [2, 3, 4]
    # (4 - 1) / 2 = 1.5 rounds to the even 2
    assert centre_square(np.arange(4)[None, None])[0, 0].tolist() == [2]


def test_frames_and_truth_are_cut_each_at_its_own_size():
    clip = RawClip(
        np.zeros((2, 8, 12, 3), np.uint8), np.zeros((2, 4, 6), np.uint8), np.arange(2), {}
    )
    cut = framing(crop="centre_square").cut(clip)
    assert cut.video.shape == (2, 8, 8, 3)
    assert cut.labels.shape == (2, 4, 4)
    assert framing(crop="centre_square").seen((8, 12)) == (8, 8)
    assert framing().cut(clip) is clip
    points = clip._replace(labels=None, hints={"keypoints": np.zeros((2, 3, 2))})
    with pytest.raises(ConfigError, match="type crop=whole"):
        framing(crop="centre_square").cut(points)


def test_compared_at():
    assert framing().compared_at((480, 854), (64, 64)) == (480, 854)
    assert framing(compare="model").compared_at((480, 854), (64, 64)) == (64, 64)


def test_bicubic_without_antialias_is_torchs_and_stays_in_range():
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 2, (1, 9, 13, 3)) * 255).astype(np.uint8)
    seen = model_input(frames, (30, 20), "cpu", "bicubic", antialias=False)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).double() / 255
    wanted = torch.nn.functional.interpolate(pixels, (30, 20), mode="bicubic", align_corners=False)
    assert wanted.max() > 1
    assert torch.allclose(seen.double(), wanted.clamp(0, 1), atol=1e-5)


def test_labels_of_propagation_start_at_zero():
    masks = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])
    assert hard_labels(Prediction(0, masks=masks, first_label=0), (1, 2)).tolist() == [[0, 1]]
    assert hard_labels(Prediction(0, masks=masks), (1, 2)).tolist() == [[1, 2]]


@given(
    num_frames=st.integers(1, 40),
    window=st.integers(1, 9),
    remainder=st.sampled_from(["keep", "drop", "complete"]),
)
def test_windows_cover_a_video_once(num_frames, window, remainder):
    frames = list(range(0, 2 * num_frames, 2))
    windows = plan_windows(frames, window, remainder)
    scored = [n for w in windows for n in w.frames[: w.num_scored]]
    whole = num_frames - num_frames % window if remainder == "drop" else num_frames
    assert scored == frames[:whole]
    if remainder == "complete" and num_frames >= window:
        assert all(len(w.frames) == window for w in windows)


def test_smtc_completes_the_last_group_with_the_last_frames():
    (*_, last) = plan_windows(range(10), 4, "complete")
    assert last.frames == [8, 9, 8, 9]  # the video's last 4 - 2 frames after its own
    assert last.num_scored == 2
    assert last.video(VideoInfo("dog", 10, (4, 4))).names == ("00008", "00009") * 2
