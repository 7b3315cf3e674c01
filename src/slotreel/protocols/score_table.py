"""The scores of one model on one set of videos: one row per video, so that sums stay exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from slotreel.types import MetricRow


class VideoFacts(NamedTuple):
    """What of a video was counted, and the scores of its objects."""

    frames: int  # annotated frames that were scored
    objects: int  # different truth ids in them, or points per frame
    per_object: dict[str, dict[str, float]] = {}  # noqa: RUF012


def combine(averages: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a set from the averages of what was measured: numbers, or arrays of resamples.

    A score with parts (``score/part``) is the plain mean of its parts; ``jf`` is the mean of the
    set's ``j`` and ``f``.
    """
    means: dict[str, Any] = {}
    parts: dict[str, list[Any]] = {}
    for metric, value in averages.items():
        whole, is_part, _ = metric.partition("/")
        if is_part:
            parts.setdefault(whole, []).append(value)
        else:
            means[metric] = value
    means |= {whole: sum(values) / len(values) for whole, values in parts.items()}
    if "j" in means and "f" in means:
        means["jf"] = (means["j"] + means["f"]) / 2
    return means


@dataclass
class ScoreTable:
    """Rows of (sum, count) per metric and video under one protocol.

    A set's score is the sum of sums over the sum of counts, in the order of video ids: the same
    number however many ranks shared the videos.

    Attributes:
        set: name of the set of videos, e.g. ``davis2017``.
        protocol: name of the protocol.
        description: the protocol in one line; tables with different lines are not compared.
        rows: metric row of each video id.
        facts: what was counted in each video.
    """

    set: str
    protocol: str
    description: str
    rows: dict[str, MetricRow] = field(default_factory=dict)
    facts: dict[str, VideoFacts] = field(default_factory=dict)

    def sums(self) -> dict[str, tuple[float, float]]:
        """(sum, count) per metric over all videos, metrics in order of first appearance."""
        totals: dict[str, tuple[float, float]] = {}
        for video in sorted(self.rows):
            for metric, (value, count) in self.rows[video].items():
                total, number = totals.get(metric, (0.0, 0.0))
                totals[metric] = (total + value, number + count)
        return totals

    def means(self) -> dict[str, float]:
        """Score per metric, a fraction; metrics that no video could be scored on are left out.

        See ``combine`` for scores that are made of others.
        """
        return combine({m: total / count for m, (total, count) in self.sums().items() if count})

    def parts(self) -> dict[str, float]:
        """Score of every part, by its full name."""
        return {
            metric: total / count
            for metric, (total, count) in self.sums().items()
            if count and "/" in metric
        }

    def counts(self) -> dict[str, float]:
        """How many samples each metric averages over, 0 included; of parts: how many there are."""
        counts: dict[str, float] = {}
        for metric, (_, count) in self.sums().items():
            whole, is_part, _ = metric.partition("/")
            counts[whole] = counts.get(whole, 0.0) + bool(count) if is_part else count
        return counts

    def counted(self) -> str:
        """Videos, objects and frames that were scored, in words."""
        objects = sum(facts.objects for facts in self.facts.values())
        frames = sum(facts.frames for facts in self.facts.values())
        return f"{len(self.rows)} videos, {objects} objects, {frames} annotated frames"

    def only(self, video: str) -> ScoreTable:
        """The table of one of its videos."""
        facts = {video: self.facts[video]} if video in self.facts else {}
        return ScoreTable(
            self.set, self.protocol, self.description, {video: self.rows[video]}, facts
        )

    def merge(self, other: ScoreTable) -> ScoreTable:
        """The table of both tables' videos; what ranks do with the rows of their share.

        Raises:
            ValueError: if the tables belong to different sets or protocols, or give one video
                different rows.
        """
        mine = (self.set, self.protocol, self.description)
        theirs = (other.set, other.protocol, other.description)
        if mine != theirs:
            raise ValueError(
                f"scores of different protocols do not mix: expected {mine}, got {theirs}; "
                "score both with the same protocol"
            )
        for video in self.rows.keys() & other.rows.keys():
            if self.rows[video] != other.rows[video]:
                raise ValueError(
                    f"video {video!r} of {self.set} was scored twice with different results: "
                    f"{self.rows[video]} and {other.rows[video]}; expected every rank to score "
                    "its own videos with the same weights"
                )
        return ScoreTable(*mine, rows=self.rows | other.rows, facts=self.facts | other.facts)

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts only: fit for JSON, checkpoints and other ranks."""
        return {
            "set": self.set,
            "protocol": self.protocol,
            "description": self.description,
            "rows": {
                video: {metric: [value, count] for metric, (value, count) in row.items()}
                for video, row in sorted(self.rows.items())
            },
            "facts": {video: facts._asdict() for video, facts in sorted(self.facts.items())},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ScoreTable:
        """The table that ``to_dict`` described."""
        rows = {
            video: {metric: (float(x), float(n)) for metric, (x, n) in row.items()}
            for video, row in content["rows"].items()
        }
        facts = {video: VideoFacts(**fact) for video, fact in content["facts"].items()}
        return cls(content["set"], content["protocol"], content["description"], rows, facts)
