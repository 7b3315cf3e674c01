"""What is propagated from frame 0, and how results are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from slotreel.propagation.labels import (
    JointLabels,
    ObjectLabels,
    joint_cells,
    joint_maps,
    stretch,
)

CPU = torch.device("cpu")
DINO = {"first_label": "nearest", "output_norm": "per_channel", "read_out": "labels"}
CRW = {"first_label": "bilinear", "output_norm": "none", "read_out": "masks"}


def objects(labels: np.ndarray, grid: tuple[int, int], **knobs: Any) -> ObjectLabels:
    return ObjectLabels(labels, grid=grid, size=labels.shape, device=CPU, **{**DINO, **knobs})


def joints(points: list[list[float]], grid: tuple[int, int], frame: tuple[int, int]) -> JointLabels:
    return JointLabels(np.array(points, dtype=np.float64), grid=grid, frame=frame, device=CPU)


def test_stretch_worked_by_hand() -> None:
    channels = torch.tensor([[[0.2, 0.8, 0.5]], [[0.1, 0.1, 0.1]], [[0.0, 0.0, 0.0]]])
    torch.testing.assert_close(
        stretch(channels),
        torch.tensor([[[0.0, 1.0, 0.5]], [[0.1, 0.1, 0.1]], [[0.0, 0.0, 0.0]]]),
    )


def test_nearest_gives_one_id_per_cell() -> None:
    labels = np.kron(np.array([[0, 1, 2], [2, 2, 1]], np.uint8), np.ones((4, 4), np.uint8))
    maps = objects(labels, (2, 3)).maps
    assert maps.argmax(-1).tolist() == [[0, 1, 2], [2, 2, 1]]
    assert torch.equal(maps.sum(-1), torch.ones(2, 3))


def test_nearest_takes_the_pixel_at_the_centre_of_a_cell() -> None:
    labels = np.arange(35, dtype=np.uint8).reshape(5, 7)
    labels.setflags(write=False)
    rows, columns = [0, 2, 4], [0, 2, 4, 6]  # (i + 0.5) * 5 / 3 and (i + 0.5) * 7 / 4, cut
    expected = labels[np.ix_(rows, columns)].tolist()
    assert objects(labels, (3, 4)).maps.argmax(-1).tolist() == expected


def test_bilinear_shares_a_cell() -> None:
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 1:4] = 1
    maps = objects(labels, (1, 4), **CRW).maps
    # columns are at pixels 0.5, 2.5, 4.5 and 6.5: halfway between two neighbours
    assert maps[0, :, 1].tolist() == [0.5, 1.0, 0.0, 0.0]
    assert torch.equal(maps.sum(-1), torch.ones(1, 4))


@pytest.mark.parametrize("knobs", [DINO, CRW])
def test_void_gives_nothing(knobs: dict[str, Any]) -> None:
    labels = np.zeros((4, 8), np.uint8)
    labels[:, 2:4], labels[:, 4:] = 1, 255
    given = objects(labels, (2, 4), **knobs)
    assert given.maps.shape == (2, 4, 2)  # not 256 channels
    assert given.maps.sum(-1).tolist() == [[1, 1, 0, 0]] * 2
    assert not (given.labels == 255).any()
    if knobs is DINO:
        assert np.array_equal(given.given().labels, np.where(labels == 255, 0, labels))
        assert (given.read(1, given.maps).labels[:, 6:] == 0).all()


def test_missing_ids_and_lost_objects_change_nothing_else() -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels[:4, :4], labels[7, 7] = 3, 5  # 1, 2 and 4 are missing; 5 is too small for the grid
    given = objects(labels, (2, 2))
    assert given.maps.shape[-1] == 6
    assert given.maps.sum((0, 1)).tolist() == [3, 0, 0, 1, 0, 0]
    alone = objects(np.where(labels == 3, 1, 0).astype(np.uint8), (2, 2))
    result = given.read(1, given.maps).labels
    assert np.array_equal(result == 3, alone.read(1, alone.maps).labels == 1)
    assert set(np.unique(result)) == {0, 3}
    assert np.array_equal(given.given().labels, labels)


def test_only_background_stays_background() -> None:
    given = objects(np.zeros((8, 8), np.uint8), (2, 2))
    assert (given.read(1, given.maps).labels == 0).all()
    full = objects(np.ones((8, 8), np.uint8), (2, 2))
    assert (full.read(1, full.maps).labels == 1).all()  # a constant channel is no NaN


def test_soft_masks_begin_with_the_background() -> None:
    labels = np.zeros((4, 4), np.uint8)
    labels[:2] = 1
    given = objects(labels, (2, 2), **CRW)
    for prediction in (given.given(), given.read(0, given.maps)):
        assert prediction.first_label == 0
        assert prediction.masks is not None
        assert prediction.masks.tolist() == [[[0, 0], [1, 1]], [[1, 1], [0, 0]]]
    stretched = objects(labels, (2, 2), **{**CRW, "output_norm": "per_channel"})
    masks = stretched.read(1, stretched.maps * 0.25).masks
    assert masks is not None
    assert masks.shape == (2, 4, 4)
    assert (masks.amax((1, 2)) == 1).all()


def test_pose_worked_by_hand() -> None:
    maps = torch.zeros(4, 5, 2)
    maps[1, 2, 0], maps[1, 3, 0], maps[2, 2, 0] = 0.6, 0.3, 0.1
    maps[0, 0, 0] = 0.05  # the fourth best does not count
    cells = joint_cells(maps)
    assert cells[0].tolist() == pytest.approx([2.3, 1.1])
    assert cells[1].tolist() == [-1, -1]
    predicted = joints([[0, 0], [0, 0]], (4, 5), (240, 320)).read(3, maps)
    assert predicted.frame == 3
    assert predicted.points is not None
    np.testing.assert_allclose(predicted.points, [[2.3 / 5 * 320, 1.1 / 4 * 240], [-1, -1]])


def test_joints_begin_as_small_gaussians() -> None:
    maps = joint_maps(torch.tensor([[2.4, 1.5], [torch.nan, torch.nan], [9.0, 9.0]]), (4, 5))
    edge, corner = np.exp(-2), np.exp(-4)
    expected = np.zeros((4, 5))
    expected[1:4, 1:4] = [[corner, edge, corner], [edge, 1, edge], [corner, edge, corner]]
    np.testing.assert_allclose(maps[..., 0], expected, rtol=1e-6)
    assert not maps[..., 1:].any()  # no annotation; outside the frame


def test_joints_of_frame_0_are_those_given() -> None:
    points = joints([[10.5, 3.25], [np.nan, np.nan]], (4, 4), (40, 40)).given().points
    assert points is not None
    assert points.tolist() == [[10.5, 3.25], [-1, -1]]
