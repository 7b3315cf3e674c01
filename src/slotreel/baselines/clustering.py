"""k-means partitions that a trained model must beat: of the pixel grid and of features.

Labels are those of a prediction everywhere in slotreel: uint8, slot + 1, none of them 0.
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


def grid_blocks(height: int, width: int, num_clusters: int, seed: int) -> np.ndarray:
    """Cut the frame into compact blocks of similar size, whatever it shows.

    k-means of the pixels' coordinates; the same blocks for every frame and video of one size.

    Args:
        height: H in pixels.
        width: W in pixels.
        num_clusters: K, 1 to 255.
        seed: of the k-means initialisation.

    Returns:
        uint8 (H, W), labels 1 .. num_clusters.

    Raises:
        ValueError: if a size is not positive or ``num_clusters`` is out of range.
    """
    if height < 1 or width < 1:
        raise ValueError(f"expected a frame of at least 1x1 pixels, got {height}x{width}")
    rows, columns = np.divmod(np.arange(height * width), width)
    points = np.stack([rows, columns], axis=1).astype(np.float64)
    return kmeans_labels(points, num_clusters, seed).reshape(height, width)


def kmeans_labels(
    points: np.ndarray, num_clusters: int, seed: int, max_samples: int = 20_000
) -> np.ndarray:
    """Cluster the points of one video: one k-means for all its frames.

    Centres are fitted on a random subset, then every point goes to its nearest centre. One thread
    and float64 throughout, so that the labels depend on the seed only, not on the machine's cores.

    Source: Lloyd's algorithm from k-means++ seeds (Arthur and Vassilvitskii 2007), scikit-learn.

    Args:
        points: finite floats (n, C), e.g. the backbone's tokens of all frames without position.
        num_clusters: K, 1 to 255.
        seed: of the subset and the initialisation.
        max_samples: largest subset that centres are fitted on.

    Returns:
        uint8 (n,), labels 1 .. K; fewer labels where the fitted points have fewer distinct values.

    Raises:
        ValueError: if the points are not (n, C) with n > 0 and finite, or a number is out of range.
    """
    if points.ndim != 2 or len(points) == 0:
        raise ValueError(f"expected points (n, C) with n > 0, got shape {points.shape}")
    if not 1 <= num_clusters <= 255:
        raise ValueError(f"num_clusters={num_clusters} does not fit a uint8 label map; use 1..255")
    if max_samples < num_clusters:
        raise ValueError(
            f"max_samples={max_samples} is fewer than num_clusters={num_clusters}; "
            f"try max_samples={max(20_000, num_clusters)}"
        )
    points = np.ascontiguousarray(points, dtype=np.float64)
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise ValueError(f"expected finite points, got {bad} of {len(points)} with NaN or infinity")
    sample = points
    if len(points) > max_samples:
        chosen = np.random.default_rng(seed).choice(len(points), max_samples, replace=False)
        sample = points[np.sort(chosen)]
    num_fitted = min(num_clusters, len(np.unique(sample, axis=0)))
    with threadpool_limits(limits=1):
        means = KMeans(num_fitted, n_init=1, random_state=seed).fit(sample)
        labels: np.ndarray = means.predict(points)
    return (labels + 1).astype(np.uint8)
