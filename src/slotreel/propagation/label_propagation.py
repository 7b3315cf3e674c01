"""Any model with features as a tracker of given labels: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import Objective, Stream
from slotreel.layers.checks import at_least, one_of
from slotreel.propagation.affinity import Affinity, Source, Ties, Window
from slotreel.propagation.frame_size import FrameSize
from slotreel.propagation.labels import (
    NO_LABEL,
    FirstLabel,
    JointLabels,
    Labelling,
    ObjectLabels,
    OutputNorm,
    ReadOut,
)
from slotreel.propagation.memory import Memory
from slotreel.types import (
    Batch,
    FrameFeatures,
    LossOutput,
    MaskSource,
    Prediction,
    Progress,
    VideoInfo,
)


class LabelPropagation(Objective):
    """Spreads the labels of frame 0 over a video by the similarity of a model's features.

    Every frame takes soft labels from the frames in memory (``affinity.Affinity``) and joins them
    with the labels it got. The defaults are DINO's settings; ``conf/propagation`` has others.

    Source: Caron et al. 2021 (DINO, arXiv:2104.14294), section 4.2.2; Jabri et al. 2020 (CRW,
    arXiv:2006.14613), section 4; Qian et al. 2023 (SMTC, arXiv:2308.09951).
    Differs: frames are resized with antialias by whoever reads them; for the rest see ``affinity``
    and ``labels``.

    Args:
        objective: a model with features; ``model=features`` is a backbone and nothing else.
        recent_frames: frames before the present one that are remembered.
        first_frame: remember frame 0 for good.
        pad_first: start with ``recent_frames`` copies of frame 0 in memory (CRW, SMTC).
        radius: reach of the window, cells of the grid; None looks everywhere.
        window: ``square`` (up to the radius) or ``disk`` (distance below it).
        window_first: whether the window also holds for the frame 0 that is kept for good.
        top_k: most similar positions that labels are taken from.
        ties: at the k-th place, ``keep`` all that are equal (DINO) or ``cut`` (CRW).
        temperature: of the softmax over cosines.
        first_label: ``nearest`` (one id per cell) or ``bilinear`` (soft).
        output_norm: ``per_channel`` stretches each channel of a result to [0, 1], ``none`` not.
        read_out: ``labels`` decides at the size of the model's input, ``masks`` gives soft masks,
            which are upsampled to the size of the truth before they are cut.
        stride: features are resized (bilinear) to the input's size over this, rounded down; None
            keeps the model's grid.
        frame_size: size of the frames the model sees, pixels: one number for a square or
            [height, width]; None = by the next two.
        short_side: frames are resized to this short side, and the long one to a multiple; None
            keeps the size of the video, with both sides cut down to multiples.
        multiple: of which sides are; a multiple of the backbone's patch.
        max_entries: similarities computed at a time; bounds memory.

    Raises:
        ConfigError: a model without features, an unknown word, or a number out of range.
    """

    conditional = True
    trainable = False

    def __init__(
        self,
        objective: Objective,
        *,
        recent_frames: int = 7,
        first_frame: bool = True,
        pad_first: bool = False,
        radius: float | None = 12,
        window: Window = "square",
        window_first: bool = True,
        top_k: int = 5,
        ties: Ties = "keep",
        temperature: float = 0.1,
        first_label: FirstLabel = "nearest",
        output_norm: OutputNorm = "per_channel",
        read_out: ReadOut = "labels",
        stride: int | None = None,
        frame_size: int | Sequence[int] | None = None,
        short_side: int | None = 480,
        multiple: int = 64,
        max_entries: int = 2**22,
    ) -> None:
        super().__init__()
        if not objective.has_features():
            raise ConfigError(
                f"{type(objective).__name__} has no features to propagate labels with; type "
                "model=features backbone=dino_vits16, or name a checkpoint of a slot model"
            )
        one_of("propagation.first_label", first_label, get_args(FirstLabel))
        one_of("propagation.output_norm", output_norm, get_args(OutputNorm))
        one_of("propagation.read_out", read_out, get_args(ReadOut))
        if stride is not None:
            at_least("propagation.stride", stride, 1, 8)
        self.objective, self.stride = objective, stride
        self.affinity = Affinity(
            top_k, ties, temperature, radius, window, window_first, max_entries
        )
        self.new_memory = partial(
            Memory, recent_frames, first_frame=first_frame, pad_first=pad_first
        )
        self.new_memory()  # refuses wrong numbers before the first video
        self.new_labels = partial(
            ObjectLabels, first_label=first_label, output_norm=output_norm, read_out=read_out
        )
        self.frame_size = FrameSize(frame_size, short_side, multiple)

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Refused: there is nothing to train.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "label propagation has nothing to train; train the model that gives the features"
        )

    def features(self, batch: Batch) -> FrameFeatures:
        """Those of the model."""
        return self.objective.features(batch)

    def input_size(self, frame: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which frames of a video are wanted, whatever the training size."""
        return self.frame_size(frame)

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video; frames arrive at ``input_size``, the first with ``hints``."""
        return PropagationStream(self, video)

    def describe_frames(self, frames: Tensor, start: int) -> Tensor:
        """Frames (n, 3, H, W), the first being number ``start`` -> unit features (n, h, w, E)."""
        numbers = torch.arange(start, start + len(frames), device=frames.device)
        batch = Batch((frames[None],), numbers[None], numbers.new_zeros(1))
        try:
            out = self.features(batch)
        except ConfigError as error:
            height, width = frames.shape[-2:]
            raise ConfigError(
                f"{error} (label propagation asked for {height}x{width}: see "
                "propagation.multiple, propagation.short_side and propagation.frame_size)"
            ) from error
        maps = out.tokens[0].float().unflatten(1, out.grid)  # (n, h, w, E)
        if self.stride is not None:
            size = [max(side // self.stride, 1) for side in frames.shape[-2:]]
            channels_first = maps.permute(0, 3, 1, 2)
            resized = F.interpolate(channels_first, size, mode="bilinear", align_corners=False)
            maps = resized.permute(0, 2, 3, 1)
        return F.normalize(maps, dim=-1)


class PropagationStream(Stream):
    """One video: memory of the frames behind, and what is propagated through it.

    Args:
        owner: model and settings.
        video: facts of the video.
    """

    def __init__(self, owner: LabelPropagation, video: VideoInfo) -> None:
        self.owner, self.video = owner, video
        self.memory = owner.new_memory()
        self.labelling: Labelling | None = None
        self.count = 0  # frames seen

    @torch.no_grad()
    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """The next frames (n, 3, H, W) in [0, 1] -> one prediction each, at once.

        Args:
            frames: at ``input_size``.
            hints: at the first call, of frame 0: ``labels`` uint8 (n >= 1, H0, W0), of which the
                first map is used, or ``keypoints`` (n >= 1, J, 2), x y in pixels of the video.

        Raises:
            DataError: if frame 0 has neither, or no labelled pixel.
            ValueError: if it has both.
        """
        features = self.owner.describe_frames(frames, self.count)
        size = (frames.shape[-2], frames.shape[-1])
        return [self._next(x, size, hints or {}) for x in features]

    def _next(
        self, features: Tensor, size: tuple[int, int], hints: Mapping[str, Any]
    ) -> Prediction:
        """One frame with features (h, w, E)."""
        frame = self.count
        self.count += 1
        if self.labelling is None:
            grid = (features.shape[0], features.shape[1])
            self.labelling = self._first(hints, grid, size, features.device)
            self.memory.begin(Source(features, self.labelling.maps))
            return self.labelling.given()
        maps = self.owner.affinity.gather(features, self.memory.first, self.memory.recent)
        self.memory.add(Source(features, maps))
        return self.labelling.read(frame, maps)

    def _first(
        self,
        hints: Mapping[str, Any],
        grid: tuple[int, int],
        size: tuple[int, int],
        device: torch.device,
    ) -> Labelling:
        """What is known of frame 0."""
        known = [name for name in ("labels", "keypoints") if hints.get(name) is not None]
        if len(known) == 2:
            raise ValueError(f"video {self.video.id!r}: expected labels or keypoints, got both")
        if not known:
            raise DataError(
                f"label propagation needs the labels of the first frame of video "
                f"{self.video.id!r}, and there are none; choose a set that has them "
                "(validate=davis2017_propagation)"
            )
        first = hints[known[0]][0]
        truth = first.cpu().numpy() if isinstance(first, Tensor) else np.asarray(first)
        if known == ["keypoints"]:
            return JointLabels(truth, grid=grid, frame=self.video.size, device=device)
        if (truth == NO_LABEL).all():
            raise DataError(
                f"the first frame of video {self.video.id!r} has no labelled pixel: all are "
                f"{NO_LABEL}, which means no label; expected 0 for the background and 1, 2, ... "
                "for objects"
            )
        return self.owner.new_labels(truth, grid=grid, size=size, device=device)
