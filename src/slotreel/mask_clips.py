"""Mask videos of the same clips at every evaluation, so that one can watch masks being learnt."""

from __future__ import annotations

from pathlib import Path

import torch

from slotreel.interfaces import Objective
from slotreel.training.run import Validation
from slotreel.visualize import mask_video

FOLDER = "media"  # in a run directory


def clip_path(directory: Path, name: str, index: int, step: int) -> Path:
    """Where the video of a clip and step is: ``media/<set>/clip_00/step_00000500.mp4``."""
    return directory / FOLDER / name / f"clip_{index:02d}" / f"step_{step:08d}.mp4"


def clips_drawn(directory: Path) -> list[tuple[int, str, Path]]:
    """Step, ``<set>/clip_00`` and file of every video under a run directory, by step."""
    media = directory / FOLDER
    return sorted(
        (int(path.stem.removeprefix("step_")), path.parent.relative_to(media).as_posix(), path)
        for path in media.glob("*/clip_*/step_*.mp4")
    )


def draw_clips(
    objective: Objective,
    validation: Validation,
    step: int,
    *,
    directory: Path,
    image_size: tuple[int, int],
    device: torch.device,
    num_clips: int,
    num_frames: int,
) -> dict[str, Path]:
    """Write video, truth and slots side by side, and a cell per slot, of the first videos of a set.

    One clip is in memory at a time, and of it no more than ``num_frames`` frames. Colours follow
    the truth.

    Args:
        objective: the model; in evaluation mode meanwhile and restored afterwards.
        validation: what to draw, as its protocol sees it.
        step: names the files.
        directory: of the run.
        image_size: (H, W) the model was trained with.
        device: where the model is.
        num_clips: how many videos; 0 draws none.
        num_frames: most frames of each, from its start.

    Returns:
        Files by ``<set>/clip_00``; none where the model says points.

    Raises:
        OSError: a file could not be written.
    """
    name, source, protocol, *_ = validation
    drawn = {}
    for index in range(min(num_clips, len(source))):
        clip = protocol.clip(
            objective, source, index, image_size=image_size, device=device, max_frames=num_frames
        )
        if clip is None:
            break
        path = clip_path(directory, name, index, step)
        slots = {"slots": clip.prediction}
        mask_video(path, clip.video, clip.truth, slots, slots_of="slots")
        drawn[f"{name}/clip_{index:02d}"] = path
    return drawn
