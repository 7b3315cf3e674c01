import av
import numpy as np
import pytest
from PIL import Image

from slotreel.colours import COLOURS
from slotreel.data.geometry import nearest_resize
from slotreel.visualize import colour_masks, mask_picture, mask_video, match_colours, overlay


@pytest.fixture
def clip():
    """Grey noise, two objects that move."""
    video = np.random.default_rng(0).integers(90, 160, (6, 24, 32, 3), dtype=np.uint8)
    truth = np.zeros((6, 24, 32), dtype=np.uint8)
    for t in range(6):
        truth[t, 2:10, t : t + 8], truth[t, 14:22, 20:30] = 1, 2
    return video, truth


def test_colours_differ():
    assert len(np.unique(COLOURS, axis=0)) == 256
    first = COLOURS[:12].astype(int)
    gap = np.abs(first[:, None] - first[None]).sum(-1) + 999 * np.eye(12, dtype=int)
    assert gap.min() > 80
    assert (colour_masks(np.array([[0, 1], [2, 255]], np.uint8))[1, 1] == COLOURS[255]).all()


def test_overlay_keeps_what_is_not_labelled(clip):
    frame, labels = clip[0][0], clip[1][0].copy()
    labels[0] = 255
    shown = overlay(frame, labels)
    same = (shown == frame).all(-1)
    assert same[(labels == 0) | (labels == 255)].all()
    assert not same[labels == 1].all()
    assert (overlay(frame, labels, 1.0)[labels == 2] == COLOURS[2]).all()


def test_overlay_refuses_other_sizes(clip):
    with pytest.raises(ValueError, match="frame's size"):
        overlay(clip[0][0], clip[1][0][:4])
    with pytest.raises(ValueError, match="alpha"):
        overlay(clip[0][0], clip[1][0], 1.5)


def test_permuted_slots_get_the_colours_of_the_truth(clip):
    truth = clip[1]
    slots = np.array([3, 1, 2], dtype=np.uint8)[truth]
    assert (match_colours(slots, truth) == truth).all()


def test_colours_are_matched_over_the_whole_clip(clip):
    """A slot that swaps objects in one frame keeps its colour there: the swap must be seen."""
    truth = clip[1]
    slots = truth + np.uint8(1)
    slots[3] = np.array([1, 3, 2], dtype=np.uint8)[truth[3]]
    matched = match_colours(slots, truth)
    assert (matched[0] == truth[0]).all()
    assert (matched[3][truth[3] == 1] == 2).all()


def test_slots_without_partner_get_unused_colours(clip):
    truth = clip[1]
    slots = np.array([1, 2, 3], dtype=np.uint8)[truth]
    slots[:, 12:14] = 4
    slots[:, 23:] = 5
    matched = match_colours(slots, truth)
    assert set(np.unique(matched)) == {0, 1, 2, 3, 4}
    assert (matched[:, 12:14] > 2).all()


def test_dropped_background_stays_background(clip):
    truth = clip[1].copy()
    truth[:, 0] = 255
    slots = np.array([0, 2, 1], dtype=np.uint8)[clip[1]]
    assert (match_colours(slots, truth) == clip[1]).all()


def test_picture_shows_every_row_and_enlarges_small_frames(clip):
    video, truth = clip
    slots = truth + np.uint8(1)
    two = mask_picture(video, truth, {"ours": slots})
    three = mask_picture(video, truth, {"ours": slots, "blocks": slots})
    assert two.dtype == np.uint8
    assert two.shape[2] == 3
    assert three.shape[0] - two.shape[0] == 96 + 3  # one more row of 4-fold frames and a gap
    assert mask_picture(video, truth, {}, max_columns=2).shape[1] < two.shape[1]
    top = 13 + 96 + 3
    truth_row, our_row = two[top : top + 96], two[top + 99 : top + 195]
    margin = two.shape[1] - 6 * (128 + 3)
    assert (truth_row[:, margin:] == our_row[:, margin:]).all()  # same masks, same colours


def test_picture_shrinks_large_frames_and_needs_no_truth():
    video = np.zeros((2, 480, 854, 3), dtype=np.uint8)
    slots = np.ones((2, 60, 107), dtype=np.uint8)
    picture = mask_picture(video, None, {"ours": slots})
    assert picture.shape[0] == 13 + 2 * (144 + 3)


def test_picture_refuses_what_does_not_fit(clip):
    video, truth = clip
    with pytest.raises(ValueError, match="ours: expected uint8"):
        mask_picture(video, truth, {"ours": truth[:3]})
    with pytest.raises(ValueError, match="at least one frame"):
        mask_picture(video[:0], None, {})


def test_video_has_all_frames(clip, tmp_path):
    video, truth = clip
    mask_video(tmp_path / "a.mp4", video, truth, {"a long caption of a row": truth})
    mask_video(tmp_path / "a.gif", video, truth, {"ours": truth}, fps=4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 6
    assert frames[0].height >= 96
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 6
        assert gif.info["duration"] == 250


def test_nearest_resize_takes_the_nearest_pixel():
    labels = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert (nearest_resize(labels, (4, 6))[0, ::2, ::2] == labels[0]).all()
    assert (nearest_resize(labels, (1, 3))[0, 0] == [3, 4, 5]).all()
    assert nearest_resize(labels, (2, 3)) is labels
