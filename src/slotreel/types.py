"""Values that cross a border between parts, with the legend of dimensions used everywhere.

B clips, T frames, C = 3 colours, H W pixels, h w patch grid, N = h*w tokens, E backbone width,
D slot width, Q queries, K slots (Q = K except for two-level groupers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

MaskSource = Literal["auto", "decoder", "grouper", "semantic", "instance"]
Hints = Mapping[str, Tensor]


class Dims(NamedTuple):
    """Facts that one part must know of another; filled in by ``build`` while the parts are made."""

    feature: int  # E
    slot: int  # D
    num_queries: int  # Q
    num_slots: int  # K
    grid: tuple[int, int]  # (h, w) at training size
    image_size: tuple[int, int]  # (H, W) at training size
    clip_length: int  # T at training
    key_width: int | None = None  # width of FrameFeatures.keys where the backbone has them
    vocab: int | None = None  # number of codes where there is a tokenizer


class FrameFeatures(NamedTuple):
    """What a backbone says about each frame; optional fields only where a part asked for them."""

    tokens: Tensor  # (B, T, N, E)
    grid: tuple[int, int]
    keys: Tensor | None = None  # (B, T, N, key_width)
    cls: Tensor | None = None  # (B, T, E)
    cls_attention: Tensor | None = None  # (B, T, heads, N)

    def frame(self, t: int) -> FrameFeatures:
        """Frame ``t`` alone, with T = 1 kept as an axis."""

        def cut(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[:, t : t + 1]

        return FrameFeatures(
            self.tokens[:, t : t + 1],
            self.grid,
            cut(self.keys),
            cut(self.cls),
            cut(self.cls_attention),
        )


class VideoInfo(NamedTuple):
    """One video of a source."""

    id: str  # unique within its source
    num_frames: int
    size: tuple[int, int]  # (H, W) of its frames
    names: tuple[str, ...] = ()  # file stem of each frame where frames are files, in order

    def frame_name(self, frame: int) -> str:
        """What label maps of a frame are called on disk: its own stem, or five digits."""
        return self.names[frame] if self.names else f"{frame:05d}"


class RawClip(NamedTuple):
    """Frames as a source reads them, before any transform."""

    video: np.ndarray  # uint8 (T, H, W, 3)
    labels: np.ndarray | None  # uint8 (T, H0, W0) at their own size; 0 background, 255 ignore
    frames: np.ndarray  # int64 (T,) original frame numbers
    # boxes float32 (T, M, 4): ymin xmin ymax xmax in [0, 1]; keypoints float64 (T, J, 2): x y in
    # pixels of the frame, from 0; NaN where a point has no annotation
    hints: dict[str, np.ndarray]
    annotated: np.ndarray | None = None  # bool (T,): frames with labels; None = all, if any are


class Sample(NamedTuple):
    """One training clip, transformed, before collation."""

    views: tuple[Tensor, ...]  # each uint8 (T, C, Hi, Wi)
    labels: Tensor | None  # uint8 (T, H0, W0)
    frames: Tensor  # int64 (T,)
    clip_id: int  # number of the sample since the start of training
    hints: dict[str, Tensor]
    features: FrameFeatures | None = None  # of views[0], without the axis B


class Batch(NamedTuple):
    """Clips as the objective receives them."""

    views: tuple[Tensor, ...]  # each (B, T, C, Hi, Wi) in [0, 1]; views[0] is the clip
    frames: Tensor  # (B, T) original frame numbers
    clip_id: Tensor  # (B,) number of the sample since the start of training, over all ranks
    features: FrameFeatures | None = None  # from the feature cache
    labels: Tensor | None = None  # uint8 (B, T, H0, W0); 255 = ignore
    hints: dict[str, Tensor] = {}  # noqa: RUF012  (NamedTuple field; never written to)
    teacher_view: Tensor | None = None  # pixel-aligned second augmentation of views[0]

    def clips(self, part: slice) -> Batch:
        """Some of the clips, e.g. a micro-batch."""
        f = self.features
        return Batch(
            tuple(view[part] for view in self.views),
            self.frames[part],
            self.clip_id[part],
            None
            if f is None
            else FrameFeatures(
                f.tokens[part], f.grid, *(None if x is None else x[part] for x in f[2:])
            ),
            None if self.labels is None else self.labels[part],
            {name: hint[part] for name, hint in self.hints.items()},
            None if self.teacher_view is None else self.teacher_view[part],
        )


class Level(NamedTuple):
    """One level of grouping (a two-level grouper reports ``semantic`` and ``instance``)."""

    slots: Tensor  # (B, K', D), or (B, T, K', D) once stacked over frames
    masks: Tensor  # (B, K', N): assignment of tokens, sums to <= 1 over K'
    logits: Tensor | None = None


class GrouperOutput(NamedTuple):
    """Slots of one frame after grouping."""

    slots: Tensor  # (B, K, D)
    masks: Tensor  # (B, K, N), an assignment over K
    levels: dict[str, Level] = {}  # noqa: RUF012


class FrameOutput(NamedTuple):
    """One frame of a recurrent model."""

    query: Tensor  # (B, Q, D) what the grouper started from: the predictor's proposal
    slots: Tensor  # (B, K, D)
    masks: Tensor  # (B, K, N)
    levels: dict[str, Level]


class ModelOutput(NamedTuple):
    """A clip seen by the model: FrameOutput stacked over T, and what the frames looked like."""

    features: FrameFeatures
    tokens: Tensor  # (B, T, N, D) after the projector
    query: Tensor  # (B, T, Q, D)
    slots: Tensor  # (B, T, K, D)
    masks: Tensor  # (B, T, K, N)
    levels: dict[str, Level]

    def level(self, name: str) -> Tensor:
        """Slots (B, T, K', D) of a level, see ``grouping``."""
        return self.grouping(name).slots

    def grouping(self, name: str) -> Level:
        """A level by name; ``auto`` is ``semantic`` where it exists, else all slots.

        Raises:
            KeyError: if a named level does not exist, with the names that do.
        """
        if name == "auto":
            name = "semantic" if "semantic" in self.levels else "slots"
        if name == "slots":
            return Level(self.slots, self.masks)
        if name not in self.levels:
            known = ", ".join(["auto", "slots", *self.levels])
            raise KeyError(f"level={name} does not exist for this grouper; choose one of: {known}")
        return self.levels[name]


class DecoderOutput(NamedTuple):
    """What slots predict, on the decoder's own grid (N' = grid[0] * grid[1])."""

    pred: dict[str, Tensor]  # each (B, N', width)
    masks: Tensor | None  # (B, K, N'), sums to 1 over K
    grid: tuple[int, int]
    per_slot: dict[str, Tensor] | None = None  # each (B, K, N', width), only when asked for


class Target(NamedTuple):
    """A quantity the decoder must predict.

    ``width`` counts channels per patch of the backbone's grid (``per="patch"``) or per image pixel
    (``per="pixel"``); a decoder on a coarser grid predicts all pixels of a cell.
    """

    width: int
    per: Literal["patch", "pixel"]


class HeadSpec(NamedTuple):
    """A trainable head a loss asks for: Linear-ReLU-Linear, or one Linear if hidden = 0."""

    inputs: int
    hidden: int
    outputs: int


class Needs(NamedTuple):
    """What a loss needs from data and model; ``build`` builds the union and no more."""

    views: int = 1
    features: frozenset[str] = frozenset()  # of keys, cls, cls_attention
    decode: Mapping[str, Target] = {}
    heads: Mapping[str, HeadSpec] = {}
    teacher: bool = False
    tokenizer: bool = False
    min_frames: int = 1
    frozen_target: bool = False  # compares with backbone features (the teacher's, if it needs one)
    levels: frozenset[str] = frozenset()  # levels of grouping the grouper must report
    pixels: bool = True  # reads views, labels or hints of the batch; False: features alone
    batch_wide: bool = False  # the loss relates clips of a batch, so accumulation changes it


class Progress(NamedTuple):
    """Where training stands."""

    step: int
    num_steps: int
    micro: int = 0  # number of the micro-batch within the step
    micros: int = 1  # how many there are


class LossOutput(NamedTuple):
    """Result of a training step; scalars only, so that it leaves DDP unharmed."""

    total: Tensor
    terms: dict[str, Tensor]  # unweighted value of each term
    shares: dict[str, Tensor]  # weight * value of each term
    logs: dict[str, Tensor]  # detached diagnostics


class Prediction(NamedTuple):
    """What a model says about one frame: soft maps or hard labels, or points."""

    frame: int  # position in the video, from 0
    masks: Tensor | None = None  # (K, h, w) soft, in [0, 1]; may overlap
    labels: np.ndarray | None = None  # uint8 (H, W): slot + 1, 0 = dropped background
    slots: Tensor | None = None  # (K, D)
    scores: Tensor | None = None  # (K,) how sure the model is of each mask, in [0, 1]
    points: np.ndarray | None = None  # float64 (J, 2): x y in pixels of the frame; x < 0 = unseen
    first_label: int = 1  # label of mask 0; propagation has the background among its maps: 0


class Proposals(NamedTuple):
    """Soft, possibly overlapping masks of one frame, as metrics that rank them get them."""

    masks: Tensor  # (K, h, w) soft
    scores: Tensor  # (K,) in [0, 1]; 1 where the model does not say


class Phase(NamedTuple):
    """From ``from_step`` on, parameters whose name matches a glob are trainable or not."""

    from_step: int
    trainable: Mapping[str, bool]  # glob over parameter names -> requires_grad


MetricRow = dict[str, tuple[float, float]]  # metric -> (sum, count) of one video
Gather = Callable[[Tensor], Tensor]  # (B, ...) -> (world * B, ...), differentiable
Decode = Callable[..., DecoderOutput]
State = Any  # a pytree of tensors
