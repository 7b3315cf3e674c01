"""Whether a difference between two variants could be the choice of videos.

N videos, M measured sums, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slotreel.protocols.score_table import ScoreTable, combine

FEWEST = 6  # with 5 videos even five wins out of five happen by chance in 1 of 16 cases


class Difference(NamedTuple):
    """Score of a variant minus that of the baseline, as fractions."""

    value: float
    low: float  # 2.5 % of the resamples lie below
    high: float  # 2.5 % lie above

    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def paired_differences(
    ours: Sequence[ScoreTable],
    baseline: Sequence[ScoreTable],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Difference]:
    """95 % percentile intervals of the difference of every score, by resampling videos in pairs.

    Each side's sums and counts of a video are first averaged over its seeds. Then videos are drawn
    with replacement, as many as there are and the same ones for both sides, and the scores of the
    set are computed anew from what was drawn.

    What it tests: whether the difference would keep its sign on other videos of the same kind, with
    these very networks. What it does not test: whether other seeds would give the same difference
    (seeds are averaged, their spread is the ± of the table), other data sets, or the best of many
    variants (nothing is corrected for having looked at several). Scores that are averaged over
    objects or frames are drawn by whole videos, so objects of one video are not taken for
    independent. With few videos such intervals are too narrow; below ``FEWEST`` there are none.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Args:
        ours: scores of a variant, one table per seed.
        baseline: scores of the other; the same videos.
        resamples: how often videos are drawn.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        By metric, those that both have; empty with fewer videos than ``FEWEST``.

    Raises:
        ValueError: no table, or tables of different videos or protocols.
    """
    videos = _same_videos([*ours, *baseline], bool(ours) and bool(baseline))
    if len(videos) < FEWEST:
        return {}
    chances = np.full(len(videos), 1 / len(videos))
    draws = np.random.default_rng(seed).multinomial(len(videos), chances, size=resamples)
    weights = np.concatenate([np.ones((1, len(videos))), draws])  # first: the videos as they are
    ones, others = _scores(ours, videos, weights), _scores(baseline, videos, weights)
    return {metric: _interval(ones[metric] - others[metric]) for metric in ones if metric in others}


def _same_videos(tables: Sequence[ScoreTable], both: bool) -> list[str]:
    if not both:
        raise ValueError("expected at least one table of each side, got none")
    videos = tables[0].rows.keys()
    for table in tables:
        if table.rows.keys() != videos or table.description != tables[0].description:
            raise ValueError(
                f"expected the same videos under one protocol, got {table.set} / {table.protocol} "
                f"with {len(table.rows)} videos and {tables[0].set} / {tables[0].protocol} with "
                f"{len(videos)}"
            )
    return sorted(videos)


def _scores(
    tables: Sequence[ScoreTable], videos: Sequence[str], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores (1 + R,) by metric under weights (1 + R, N)."""
    metrics = list(dict.fromkeys(m for t in tables for v in videos for m in t.rows[v]))
    pairs = np.array(
        [[[t.rows[v].get(m, (0.0, 0.0)) for m in metrics] for v in videos] for t in tables]
    ).mean(axis=0)  # (N, M, 2)
    totals, counts = weights @ pairs[..., 0], weights @ pairs[..., 1]
    with np.errstate(invalid="ignore"):  # a draw may hold no video with this metric: NaN
        averages = totals / np.where(counts > 0, counts, np.nan)
    return combine({m: averages[:, i] for i, m in enumerate(metrics) if counts[0, i] > 0})


def _interval(differences: np.ndarray) -> Difference:
    low, high = np.nanpercentile(differences[1:], [2.5, 97.5])
    return Difference(float(differences[0]), float(low), float(high))
