"""A protocol in one line: two scores compare where these lines are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slotreel.interfaces import Metric

if TYPE_CHECKING:
    from slotreel.protocols.protocol import Protocol


def describe(protocol: Protocol, trained_size: tuple[int, int] | None) -> str:
    """Everything that fixes a score besides the weights.

    Args:
        protocol: what is described.
        trained_size: (H, W) the model was trained with, where the protocol leaves the size open.
    """
    size = "training size" if trained_size is None else "{}x{} px".format(*trained_size)
    through = ""
    if protocol.through is not None:
        size = "the size it asks for"
        through = f"; features read through {_describe_partial(protocol.through)}"
    parts = [
        f"{protocol.name}: {_videos(protocol)}",
        _frames(protocol),
        _unit(protocol),
        protocol.framing.describe(size)
        + protocol.conditions.describe()
        + f"; masks={protocol.masks}, background slot: {protocol.background.rule}{through}"
        + ("" if protocol.tracks is None else f"; {_describe_partial(protocol.tracks)}")
        + "; frames without annotation not scored",
        *(_describe_metric(metric) for metric in protocol.metrics),
    ]
    return ", ".join(parts)


def _videos(protocol: Protocol) -> str:
    data = ", ".join(f"{key} {value}" for key, value in protocol.data.items())
    count = protocol.max_videos
    return (f"{data}; " if data else "") + (
        "all videos" if count is None else f"first {count} videos"
    )


def _frames(protocol: Protocol) -> str:
    count, stride = protocol.max_frames, protocol.frame_stride
    frames = "all frames" if count is None else f"first {count} frames"
    return frames if stride == 1 else f"{frames} at stride {stride}"


def _unit(protocol: Protocol) -> str:
    if protocol.window is None:
        return "whole video streamed"
    return f"windows of {protocol.window} frames from new slots, remainder {protocol.remainder}"


def _describe_metric(metric: Metric) -> str:
    """Name and public settings of a metric, as they stand after construction."""
    settings = [f"{k}={v}" for k, v in vars(metric).items() if not k.startswith("_")]
    return f"{type(metric).__name__}({', '.join(settings)})"


def _describe_partial(made: Any) -> str:
    """Name and settings of a constructor that waits for a model."""
    settings = [f"{k}={v}" for k, v in getattr(made, "keywords", {}).items()]
    return f"{getattr(made, 'func', made).__name__}({', '.join(settings)})"
