"""Whether a difference between two variants could be the choice of videos.

N videos, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from slotreel.protocols.score_table import ScoreTable, combine

FEWEST = 6  # with 5 videos even five wins out of five happen by chance in 1 of 16 cases
BLOCK = 4_000_000  # weights in memory at once


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
    one, other = _measured(ours, videos), _measured(baseline, videos)
    seen = _gaps(one, other, np.ones((1, len(videos))))
    drawn = [_gaps(one, other, block) for block in _draws(len(videos), resamples, seed)]
    return {
        metric: _interval(float(value[0]), np.concatenate([gaps[metric] for gaps in drawn]))
        for metric, value in seen.items()
    }


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


def _draws(videos: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each video was drawn, (some of R, N) at a time."""
    generator, chances = np.random.default_rng(seed), np.full(videos, 1 / videos)
    block = max(1, BLOCK // videos)
    for start in range(0, resamples, block):
        yield generator.multinomial(videos, chances, size=min(block, resamples - start))


def _measured(tables: Sequence[ScoreTable], videos: Sequence[str]) -> dict[str, np.ndarray]:
    """Sum and count of every video (N, 2) by metric, averaged over tables."""
    metrics = dict.fromkeys(m for t in tables for v in videos for m in t.rows[v])
    found = {
        m: np.array([[t.rows[v].get(m, (0.0, 0.0)) for v in videos] for t in tables]).mean(axis=0)
        for m in metrics
    }
    return {metric: pairs for metric, pairs in found.items() if pairs[:, 1].any()}


def _gaps(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Differences of scores (R,) by metric under weights (R, N)."""
    ours = combine({metric: _average(pairs, weights) for metric, pairs in one.items()})
    theirs = combine({metric: _average(pairs, weights) for metric, pairs in other.items()})
    return {metric: ours[metric] - theirs[metric] for metric in ours if metric in theirs}


def _average(pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums over counts (R,); NaN where no video with this metric was drawn."""
    totals, counts = (weights @ pairs).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, totals / counts, np.nan)


def _interval(value: float, drawn: np.ndarray) -> Difference:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Difference(value, float(low), float(high))
