"""The Python door: a model from a checkpoint or from options, called on videos.

B videos, T frames, H W pixels of the video as given, K slots, D slot width.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from slotreel.assemble import build_objective, image_size_of
from slotreel.composing import compose_config
from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import Objective
from slotreel.loading import load_checkpoint
from slotreel.runtime.distributed import World, choose_device
from slotreel.streaming import at_size, evaluating, full_size, hard_labels
from slotreel.types import Prediction, VideoInfo

Video = np.ndarray | Tensor
CHUNK = 8  # frames in the model at once


class Segments(NamedTuple):
    """What a model says about frames, on the CPU.

    Shapes are those of a video; a batch of videos has B before T, a frame of ``stream`` no T.
    Models that give no slots, or labels only (k-means), leave None.
    """

    slots: Tensor | None  # float32 (T, K, D)
    masks: Tensor | None  # float32 (T, K, H, W), soft, in [0, 1]
    labels: Tensor  # uint8 (T, H, W): slot + 1, the largest mask of each pixel


class VideoModel:
    """A model to call on videos; ``slotreel.load`` and ``slotreel.compose`` make one.

    >>> import numpy as np
    >>> import slotreel
    >>> m = slotreel.compose("num_slots=4", "slot_dim=32", device="cpu")
    >>> out = m(np.zeros((5, 48, 80, 3), dtype=np.uint8))
    >>> out.labels.shape, out.masks.shape, out.slots.shape
    (torch.Size([5, 48, 80]), torch.Size([5, 4, 48, 80]), torch.Size([5, 4, 32]))

    Attributes:
        objective: network and losses, a torch module on ``device``.
        config: resolved configuration it was built from.
        step: training steps behind it; None if it is untrained.
        device: where it runs.

    Raises:
        ConfigError: a model that must see true masks first.
    """

    def __init__(
        self, objective: Objective, config: DictConfig, step: int | None, device: torch.device
    ) -> None:
        if objective.oracle or objective.conditional:
            raise ConfigError(
                f"{type(objective).__name__} starts from true masks, which a call on a video does "
                "not give; use ./eval.py, or ./predict.py with first_mask=PNG"
            )
        self.objective = objective.to(device)
        self.config, self.step, self.device = config, step, device

    def __call__(self, video: Video, *, name: str = "video", chunk: int = CHUNK) -> Segments:
        """Segment a video, or each video of a batch by itself.

        The same as ``./predict.py`` gives (a video of that command is drawn for by its name). Masks
        take 4 K bytes per pixel of the video; ``stream`` holds a few frames at a time.

        Args:
            video: (T, H, W, 3), or a batch (B, T, 3, H, W); uint8, or float in [0, 1]; NumPy or
                torch, on any device.
            name: where a model draws noise, draws depend on the seed and on this name only.
            chunk: frames in the model at once; memory grows with it, the result does not change.

        Returns:
            ``Segments``, with B in front if the video had it.

        Raises:
            DataError: another shape, type or range, or no frame.
        """
        pixels = _as_tensor(video)
        if pixels.ndim == 5:
            return _stack(_stack(self._run(clip, name, chunk)) for clip in pixels)
        return _stack(self._run(pixels.permute(0, 3, 1, 2), name, chunk))

    def stream(
        self, frames: Iterable[Video], *, name: str = "video", chunk: int = CHUNK
    ) -> Iterator[Segments]:
        """Segment a video of any length in constant memory, a frame after the other.

        Models that must see the whole video first (k-means) give everything at its end.

        Args:
            frames: (H, W, 3) each, uint8, or float in [0, 1]; all of one size.
            name: as in a call.
            chunk: frames read ahead and in the model at once.

        Yields:
            ``Segments`` of each frame, in order: slots (K, D), masks (K, H, W), labels (H, W).

        Raises:
            DataError: as a call; also frames of several sizes.
        """
        return self._run((_as_tensor(f[None])[0].permute(2, 0, 1) for f in frames), name, chunk)

    def _run(self, frames: Iterable[Tensor], name: str, chunk: int) -> Iterator[Segments]:
        """Frames (3, H, W), uint8 or float -> one result each."""
        if chunk < 1:
            raise DataError(f"expected chunk of at least 1 frame, got {chunk}")
        waiting, size = iter(frames), (0, 0)
        stream = self.objective.stream(VideoInfo(name, 0, size))
        trained = image_size_of(self.config)
        while pushed := list(islice(waiting, chunk)):
            sizes = {(f.shape[-2], f.shape[-1]) for f in pushed} | ({size} - {(0, 0)})
            if len(sizes) > 1:
                raise DataError(f"expected frames of one size, got {sorted(sizes)} (height, width)")
            size = sizes.pop()
            pixels = torch.stack(pushed).to(self.device)
            if pixels.dtype == torch.uint8:
                pixels = pixels.float() / 255
            seen = at_size(pixels, self.objective.input_size(size, trained))
            with evaluating(self.objective):
                ready = stream.push(seen)
            yield from (_segments(prediction, size) for prediction in ready)
        if size == (0, 0):
            raise DataError("expected at least one frame, got an empty video")
        late = iter(stream.finish())
        while True:
            with evaluating(self.objective):  # never while the caller has the word
                prediction = next(late, None)
            if prediction is None:
                return
            yield _segments(prediction, size)

    def __repr__(self) -> str:
        trained = "untrained" if self.step is None else f"step {self.step}"
        return f"VideoModel({type(self.objective).__name__}, {trained}, {self.device})"


def load(checkpoint: str | os.PathLike[str], device: str = "auto") -> VideoModel:
    """A trained model.

    >>> import slotreel
    >>> m = slotreel.load("runs/latest", device="cpu")
    >>> m
    VideoModel(SlotObjective, step 2, cpu)

    Args:
        checkpoint: a run directory, a checkpoint file, or a folder made by scripts/export.py.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``mps``.

    Raises:
        CheckpointError: nothing there, damaged, or frozen weights that it names cannot be had.
        ConfigError: no such device.
    """
    where = choose_device(device, World())
    with _own_draws():
        loaded = load_checkpoint(os.fspath(checkpoint))
    return VideoModel(loaded.objective, loaded.config, loaded.step, where)


def compose(*overrides: str, device: str = "auto") -> VideoModel:
    """An untrained model: what ``./train.py OVERRIDES`` would start from.

    >>> import slotreel
    >>> m = slotreel.compose("grouper=cross_attention", "num_slots=5", "seed=1", device="cpu")
    >>> m.config.num_slots, m.config.name
    (5, 'cross_attention-moving_shapes')

    Works from any directory, and inside programs that use Hydra themselves.

    Args:
        overrides: as typed: ``experiment=slotcontrast_movi_c``, ``backbone.weights=random``.
        device: as in ``load``.

    Raises:
        ConfigError: an unknown option or key, or parts that do not fit together.
        CheckpointError: weights of a backbone that cannot be had.
    """
    where = choose_device(device, World())
    config = compose_config("train", overrides)
    with _own_draws():
        objective = build_objective(config)
    return VideoModel(objective, config, None, where)


def _own_draws() -> AbstractContextManager[None]:
    """Building seeds torch; the caller's draws go on as if it had not."""
    return torch.random.fork_rng(range(torch.cuda.device_count()))


def _as_tensor(video: Video) -> Tensor:
    """Any video as a tensor (T, H, W, 3) or (B, T, 3, H, W), checked; nothing is copied."""
    if isinstance(video, np.ndarray) and min(video.strides, default=0) < 0:
        video = video.copy()  # torch knows no steps backwards
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # nothing is written to it
        pixels = torch.as_tensor(video)
    colours = {4: -1, 5: 2}.get(pixels.ndim)
    if colours is None or pixels.shape[colours] != 3 or not pixels.numel():
        raise DataError(
            "expected a video (T, H, W, 3) or a batch of videos (B, T, 3, H, W) with at least one "
            f"frame, got shape {tuple(pixels.shape)}"
        )
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise DataError(f"expected uint8, or float in [0, 1], got {pixels.dtype}")
    low, high = (float(x) for x in pixels.detach().aminmax())
    if not 0 <= low <= high <= 1:
        raise DataError(f"expected float pixels in [0, 1], got {low:g} to {high:g}; divide by 255")
    return pixels.detach().float()


def _segments(prediction: Prediction, size: tuple[int, int]) -> Segments:
    masks, slots = prediction.masks, prediction.slots
    if masks is not None:
        masks = full_size(masks, size)
        prediction = prediction._replace(masks=masks)
    labels = torch.from_numpy(hard_labels(prediction, size))
    return Segments(
        None if slots is None else slots.detach().float().cpu(),
        None if masks is None else masks.cpu(),
        labels,
    )


def _stack(parts: Iterable[Segments]) -> Segments:
    """One more axis in front."""
    slots, masks, labels = zip(*parts, strict=True)
    return Segments(_joined(slots), _joined(masks), torch.stack(labels))


def _joined(values: tuple[Tensor | None, ...]) -> Tensor | None:
    there = [value for value in values if value is not None]
    return torch.stack(there) if there else None
