import numpy as np
import pytest

from slotreel.baselines.clustering import grid_blocks, kmeans_labels


def blobs(rng, num_clusters=4, each=50, width=6):
    centres = 20 * np.eye(num_clusters, width)
    return (centres[:, None] + rng.standard_normal((num_clusters, each, width))).reshape(-1, width)


def test_grid_is_a_label_map_with_every_block():
    blocks = grid_blocks(24, 32, 6, seed=0)
    assert blocks.shape == (24, 32)
    assert blocks.dtype == np.uint8
    sizes = np.bincount(blocks.ravel(), minlength=7)
    assert sizes[0] == 0
    assert (sizes[1:] > 24 * 32 / 6 / 3).all()


def test_every_pixel_belongs_to_the_nearest_block():
    blocks = grid_blocks(30, 20, 5, seed=1)
    at = np.argwhere(np.ones_like(blocks))
    means = np.stack([np.argwhere(blocks == k).mean(0) for k in range(1, 6)])
    nearest = ((at[:, None] - means) ** 2).sum(-1).argmin(1) + 1
    assert (nearest.reshape(30, 20) == blocks).mean() > 0.99


def test_large_frames_are_fitted_on_a_subset():
    blocks = grid_blocks(480, 854, 7, seed=0)
    assert np.unique(blocks).tolist() == list(range(1, 8))
    np.testing.assert_array_equal(blocks, grid_blocks(480, 854, 7, seed=0))


def test_separate_blobs_are_found():
    points = blobs(np.random.default_rng(0))
    found = kmeans_labels(points, 4, seed=0).reshape(4, 50)
    assert (found == found[:, :1]).all()
    assert sorted(found[:, 0]) == [1, 2, 3, 4]


@pytest.mark.parametrize("max_samples", [20_000, 60])
def test_the_seed_decides(max_samples):
    points = np.random.default_rng(3).standard_normal((500, 5)).astype(np.float32)
    first, again, other = (kmeans_labels(points, 5, s, max_samples) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8
    assert (first != other).any()
    assert np.unique(first).tolist() == [1, 2, 3, 4, 5]


def test_points_outside_the_subset_join_the_nearest_centre():
    points = blobs(np.random.default_rng(1), each=400)
    found = kmeans_labels(points, 4, seed=2, max_samples=100).reshape(4, 400)
    assert (found == found[:, :1]).all()


@pytest.mark.filterwarnings("error")
def test_fewer_distinct_points_than_clusters():
    points = np.repeat([[0.0, 0.0], [5.0, 5.0]], 10, axis=0)
    found = kmeans_labels(points, 7, seed=0)
    assert np.unique(found).tolist() == [1, 2]
    assert (found[:10] == found[0]).all()
    assert found[0] != found[-1]
    np.testing.assert_array_equal(kmeans_labels(np.ones((3, 2)), 5, seed=0), 1)
    assert grid_blocks(1, 2, 5, seed=0).shape == (1, 2)


@pytest.mark.parametrize(
    ("points", "arguments", "message"),
    [
        (np.zeros(4), {}, r"points \(n, C\)"),
        (np.zeros((0, 3)), {}, "n > 0"),
        (np.array([[0.0], [np.nan]]), {}, "1 of 2"),
        (np.zeros((4, 2)), {"num_clusters": 0}, "num_clusters=0"),
        (np.zeros((4, 2)), {"num_clusters": 256}, r"1\.\.255"),
        (np.zeros((4, 2)), {"max_samples": 1}, "try max_samples"),
    ],
)
def test_wrong_input_is_refused(points, arguments, message):
    with pytest.raises(ValueError, match=message):
        kmeans_labels(points, **({"num_clusters": 2, "seed": 0} | arguments))


def test_a_frame_needs_pixels():
    with pytest.raises(ValueError, match="at least 1x1"):
        grid_blocks(0, 4, 2, seed=0)
