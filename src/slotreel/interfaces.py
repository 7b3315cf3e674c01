"""The parts of slotreel: what each takes and gives. Shapes follow the legend in ``types``.

A new option is one file that subclasses one of these, and one YAML that names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from slotreel.noise import Noise
from slotreel.types import (
    Batch,
    Decode,
    DecoderOutput,
    Dims,
    FrameFeatures,
    Gather,
    GrouperOutput,
    Hints,
    Level,
    LossOutput,
    MaskSource,
    MetricRow,
    ModelOutput,
    Needs,
    Phase,
    Prediction,
    Progress,
    RawClip,
    State,
    VideoInfo,
)


class Part(nn.Module, ABC):
    """Anything with parameters that sits in the model."""

    def without_gradient(self) -> set[str]:
        """Names of parameters that get no gradient by design; ``build`` freezes them."""
        return set()

    def phases(self) -> list[Phase]:
        """When which parameters (globs relative to this part) are trainable; default: always."""
        return []


class Backbone(Part):
    """Frames to tokens. Owns mean and std of its weights: video arrives in [0, 1].

    Attributes:
        feature_width: E.
        key_width: width of ``keys``, or None if the backbone has none.
        frozen: whether its features never change, so that they may serve as targets.
        origin: where the weights it was built with can be had again: ``timm:NAME`` (timm's hub) or
            ``package:NAME`` (shipped with slotreel); None for random ones, files, and none at all.
    """

    feature_width: int
    key_width: int | None = None
    frozen: bool = True
    origin: str | None = None

    @abstractmethod
    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w) for frames of (H, W); ValueError if such frames do not fit."""

    @abstractmethod
    def forward(self, video: Tensor, want: frozenset[str] = frozenset()) -> FrameFeatures:
        """Video (B, T, 3, H, W) in [0, 1] -> features; ``want``: keys, cls, cls_attention."""


class Projector(Part):
    """Trainable map from backbone tokens to slot width; never cached, never a target."""

    @abstractmethod
    def forward(self, features: FrameFeatures) -> Tensor:
        """Features (tokens (B, T, N, E)) -> tokens (B, T, N, D)."""


class Initializer(Part):
    """First query of a clip (of every frame under ``predictor=reinit``).

    Attributes:
        reads_hints: whether the query depends on the hints.
    """

    reads_hints: bool = True

    @abstractmethod
    def forward(
        self, tokens: Tensor, features: FrameFeatures, hints: Hints, batch_size: int, noise: Noise
    ) -> Tensor:
        """Tokens (B, N, D) of one frame, its features (T = 1) and hints -> query (B, Q, D)."""


class Grouper(Part):
    """Assigns tokens of a frame to slots, starting from a query.

    Attributes:
        num_queries: Q.
        num_slots: K.
        window: frames it must see together, for which ``prepare`` gets carry None; videos are
            streamed in groups of so many. None: frame t depends on frames <= t only.
        num_iters: rounds per frame, which an evaluation may change; None where there are none.
        levels: levels of grouping with slots and masks of their own, which losses may ask for and
            evaluation may look at.
    """

    num_queries: int
    num_slots: int
    window: int | None = None
    num_iters: int | None = None
    levels: frozenset[str] = frozenset()

    @abstractmethod
    def prepare(self, tokens: Tensor, features: FrameFeatures, carry: State) -> tuple[State, State]:
        """Keys and values of all frames at once: tokens (B, T, N, D) -> memory, carry.

        ``memory`` is a pytree of tensors whose axis 1 is T. ``carry`` is None at the first frame of
        a clip and otherwise what the previous call returned (for parts that compare frames).
        """

    @abstractmethod
    def forward(self, query: Tensor, memory: State, *, first: bool, noise: Noise) -> GrouperOutput:
        """Query (B, Q, D) and memory of one frame (axis T removed) -> slots, masks, levels."""

    def confidence(self, slots: Tensor, levels: Mapping[str, Level]) -> Tensor | None:
        """How sure it is of each slot's mask, (..., K) in [0, 1], at evaluation; None: no word."""
        return None

    def diagnostics(self, levels: Mapping[str, Level]) -> dict[str, Tensor]:
        """Scalars to log at training, from the levels (B, T, ...) of a clip."""
        return {}


class Predictor(Part):
    """From the slots of a frame to the query of the next.

    Attributes:
        reinit: the query comes from the initializer at every frame; forward is not called.
    """

    reinit: bool = False

    @abstractmethod
    def forward(self, slots: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        """Slots (B, Q, D) and tokens (B, N, D) of frame t -> query (B, Q, D) of t + 1, state.

        ``state`` is None after the first frame and otherwise what the previous call returned.
        """


class Decoder(Part):
    """Predicts from slots what the losses asked for.

    Built as ``Decoder(dims=..., targets={name: Target})``; raises ValueError if it cannot predict
    one of the targets, naming a decoder that can.
    """

    @abstractmethod
    def forward(
        self,
        slots: Tensor,
        grid: tuple[int, int],
        *,
        positions: Tensor | None = None,
        targets: Tensor | None = None,
        per_slot: bool = False,
    ) -> DecoderOutput:
        """Slots (B, K, D) -> predictions on the decoder's grid.

        Args:
            slots: one frame's slots; callers fold time into B.
            grid: patch grid (h, w) of the frames.
            positions: (P,) indices of the only cells to predict; None predicts all.
            targets: tokens to condition on (autoregressive decoders).
            per_slot: also return each slot's own prediction.
        """


class TokenizerOutput(NamedTuple):
    """Discrete tokens of frames and the tokenizer's own reconstruction loss."""

    tokens: Tensor  # int64 (B, T, M)
    loss: Tensor  # scalar


class Tokenizer(Part):
    """Frames to discrete tokens, with ``vocab`` codes."""

    vocab: int

    @abstractmethod
    def forward(self, video: Tensor, progress: Progress, noise: Noise) -> TokenizerOutput:
        """Video (B, T, 3, H, W) in [0, 1] -> tokens."""


class StepContext(NamedTuple):
    """Everything a loss may look at."""

    batch: Batch
    student: tuple[ModelOutput, ...]  # one per view
    teacher: ModelOutput | None
    decode: Decode  # decode(slots (B, T, K, D)) -> DecoderOutput with B*T folded; cached per slots
    heads: nn.ModuleDict
    tokens: TokenizerOutput | None
    progress: Progress
    gather: Gather
    teacher_heads: nn.ModuleDict | None = None  # those of the teacher; None without one


class Loss(ABC):
    """One term of the objective; holds no parameters.

    Args:
        weight: factor of the term in the total.

    Attributes:
        level: which slots it looks at: a level of the grouper, ``slots`` for all, or ``auto``, see
            ``ModelOutput.level``.
    """

    level: str = "auto"

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What data and model must provide."""

    @abstractmethod
    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """The unweighted value (scalar) and diagnostics to log."""


class Stream(ABC):
    """One video on its way through a model, frame by frame, with constant memory."""

    @abstractmethod
    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """The next frames (n, 3, H, W) in [0, 1]; returns predictions that are ready."""

    def finish(self) -> Iterable[Prediction]:
        """Predictions that had to wait for the whole video, in order; may make them one by one."""
        return []


class Objective(nn.Module, ABC):
    """What the loop trains and the protocols score; a model without slots implements this too.

    Attributes:
        oracle: ``push`` wants the truth in ``hints["labels"]`` (trivial rows only).
        conditional: the first ``push`` wants the truth of frame 0, in ``hints["labels"]``
            (1, H0, W0) or ``hints["keypoints"]`` (1, J, 2).
        trainable: whether there is anything to train.
        views: how many views of a clip ``training_step`` expects.
        reads_pixels: whether ``training_step`` reads views, labels or hints beside features; where
            features come from disk and it does not, frames are not read.
    """

    oracle: bool = False
    conditional: bool = False
    trainable: bool = True
    views: int = 1
    reads_pixels: bool = True

    @abstractmethod
    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Loss of one (micro-)batch."""

    def forward(self, batch: Batch, progress: Progress) -> LossOutput:
        """Same as ``training_step``: the call that DDP wraps."""
        return self.training_step(batch, progress)

    @abstractmethod
    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video. Raises ValueError if the model cannot stream or lacks the mask source."""

    def input_size(self, frame: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which this model wants frames of a video; default: as trained.

        Args:
            frame: (H, W) of the video's frames.
            trained: (H, W) the model was trained with.
        """
        return trained

    def mask_source(self, masks: MaskSource = "auto") -> str:
        """Whose masks ``stream(masks=...)`` yields: decoder, grouper, or the model's only ones."""
        return "model"

    def has_features(self) -> bool:
        """Whether ``features`` answers: only then can labels spread by them."""
        return type(self).features is not Objective.features

    def features(self, batch: Batch) -> FrameFeatures:
        """Backbone features of a batch, for the feature cache, probes and label propagation."""
        raise TypeError(
            f"{type(self).__name__} has no features; choose a model that has a backbone"
        )

    def param_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Parameters by component, for logging; default: by first part of the name."""
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in self.named_parameters():
            groups.setdefault(name.split(".")[0], []).append((name, parameter))
        return groups

    def phases(self) -> list[Phase]:
        """When which parameters are trainable: a pure function of the step."""
        return []

    def after_step(self, progress: Progress) -> None:
        """Called after each optimizer step, e.g. to move an EMA copy."""


class VideoSource(ABC):
    """Videos on disk or made up, read frame by frame."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of videos."""

    @abstractmethod
    def info(self, index: int) -> VideoInfo:
        """Facts of a video, without reading its frames where possible."""

    @abstractmethod
    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """The given frames, in the order asked for.

        Raises:
            slotreel.errors.DataError: a frame cannot be read; names the file and the reason.
        """


class Metric(ABC):
    """One score of a video, fed frame by frame; memory does not grow with the video's pixels.

    Attributes:
        reads: what ``update`` gets. ``labels``: two label maps uint8 (H, W), NumPy or torch on any
            device; prediction slot + 1, 0 = dropped background; truth 0 background, 255 = ignore.
            ``proposals``: a ``Proposals`` and such a truth. ``points``: two float64 (J, 2) arrays,
            x and y in pixels of the frame; predicted x < 0 = called unseen.
        score_ends: whether the first and the last frame of a video count.
    """

    reads: ClassVar[Literal["labels", "proposals", "points"]] = "labels"
    score_ends: bool = True

    @abstractmethod
    def start(self, video: VideoInfo) -> None:
        """Forget the previous video."""

    @abstractmethod
    def update(self, prediction: Any, truth: Any, frame: int) -> None:
        """One annotated frame; see ``reads``."""

    @abstractmethod
    def finish(self) -> MetricRow:
        """(sum, count) per metric name; a set's score is the sum of sums over the sum of counts.

        Names ``score/part`` are parts of a score (joints, classes): each part is such a quotient,
        and ``score`` the plain mean of the parts that have one.
        """

    def objects(self) -> dict[str, dict[str, float]]:
        """Scores of each object of the video that was just finished, by its id; {} if none."""
        return {}


Transform = Callable[[RawClip, np.random.Generator], RawClip]
Schedule = Callable[[int], float]

__all__ = [
    "Backbone",
    "Decoder",
    "Dims",
    "Grouper",
    "Initializer",
    "Loss",
    "Metric",
    "Objective",
    "Part",
    "Predictor",
    "Projector",
    "Schedule",
    "StepContext",
    "Stream",
    "Tokenizer",
    "TokenizerOutput",
    "Transform",
    "VideoSource",
]
