"""What a model receives beside the published preprocessing, computed from its description.

The description: pixels / 255, resize (bicubic, pixel centres aligned, no anti-aliasing), cut to
[0, 1], subtract the mean and divide by the spread of ImageNet; in training also one crop and one
coin to mirror per clip; in evaluation the centre square first. Here in float64 with matrices of
interpolation weights, there with the project's loader, augmentation, framing and backbone.
"""

from __future__ import annotations

import copy
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from omegaconf import DictConfig
from torch import Tensor, nn

from slotreel.assemble import image_size_of, make
from slotreel.data.augment import augment_batch
from slotreel.data.clips import TrainingClips
from slotreel.data.image_io import read_image
from slotreel.data.loader import collate, to_device
from slotreel.data.sampler import SampleKey
from slotreel.interfaces import Objective, VideoSource
from slotreel.types import Progress, RawClip, VideoInfo
from tests import running
from tests.parity.row import Row

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
STILL = Path(__file__).parents[1] / "data/davis/JPEGImages/480p/blackswan/00000.jpg"


class Given(VideoSource):
    """One video."""

    def __init__(self, video: np.ndarray) -> None:
        self.video = video

    def __len__(self) -> int:
        return 1

    def info(self, index: int) -> VideoInfo:
        return VideoInfo("given", len(self.video), self.video.shape[1:3])

    def read(self, index: int, frames: range) -> RawClip:
        return RawClip(
            self.video[list(frames)],
            np.ones((len(frames), *self.video.shape[1:3]), np.uint8),
            np.asarray(frames),
            {},
        )


# --- from the description --------------------------------------------------------------------


def weights(old: int, new: int) -> np.ndarray:
    """Matrix (new, old) of cubic convolution with a = -0.75; the edge repeats outside."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    left, matrix = np.floor(place).astype(int), np.zeros((new, old))
    for tap in (-1, 0, 1, 2):
        d = np.abs(place - (left + tap))
        near, far = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        column = np.clip(left + tap, 0, old - 1)
        np.add.at(matrix, (np.arange(new), column), np.where(d <= 1, near, far))
    return matrix


def resized(video: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) -> float64 (T, *size, 3) in [0, 1]."""
    rows, columns = (weights(o, n) for o, n in zip(video.shape[1:3], size, strict=True))
    frames = np.einsum("ah,thwc,bw->tabc", rows, video / 255, columns, optimize=True)
    return frames.clip(0, 1)


def without_normalisation(frames: np.ndarray) -> np.ndarray:
    """(T, 3, H, W) as a backbone sees them -> (T, H, W, 3) in [0, 1]."""
    return frames.transpose(0, 2, 3, 1) * STD + MEAN


def square(video: np.ndarray) -> np.ndarray:
    side = min(video.shape[1:3])
    top, left = (round((n - side) / 2) for n in video.shape[1:3])
    return video[:, top : top + side, left : left + side]


def short_side(video: np.ndarray, size: int) -> tuple[int, int]:
    height, width = video.shape[1:3]
    long = int(max(height, width) * size / min(height, width))
    return (size, long) if height <= width else (long, size)


# --- ours ------------------------------------------------------------------------------------


class SeenError(Exception):
    """What a backbone was given, with the published normalisation undone."""


class Spy(nn.Module):
    """Stands where a backbone normalises, and stops the run there."""

    def __init__(self, normalise: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, video: Tensor) -> Tensor:
        raise SeenError(without_normalisation(self.normalise(video)[0].double().numpy()))


@cache
def spying(experiment: str) -> tuple[DictConfig, Objective]:
    """Configuration and model of an experiment whose backbone tells what it gets."""
    cfg, objective = running.built(experiment)
    objective = copy.deepcopy(objective)
    backbone = objective.model.backbone
    backbone.normalise = Spy(backbone.normalise)
    return cfg, objective


def trained_on(experiment: str, video: np.ndarray, number: int) -> np.ndarray:
    """A training clip as the backbone gets it, (T, H, W, 3); ``number`` draws crop and mirror."""
    cfg, objective = spying(experiment)
    clips = TrainingClips(
        Given(video),
        cfg.clip_length,
        transforms=[make(step)() for step in cfg.dataset.transform],
        seed=cfg.seed,
        starts=cfg.clip_starts,
    )
    batch = to_device(collate([clips[SampleKey(number, 0, number)]]), "cpu")
    batch = augment_batch(batch, [make(step)() for step in cfg.dataset.augment], cfg.seed, 0)
    try:
        objective(batch, Progress(0, 1))
    except SeenError as seen:
        return np.asarray(seen.args[0])
    raise AssertionError("the backbone was not asked")


def scored_on(experiment: str, video: np.ndarray) -> np.ndarray:
    """The frames of a video as the backbone gets them in validation, (T, H, W, 3)."""
    cfg, objective = spying(experiment)
    (validation,) = (cfg.get("validate") or cfg.dataset.validation).values()
    try:
        make(validation.protocol)().run(
            objective, Given(video), set_name="given", image_size=image_size_of(cfg), device="cpu"
        )
    except SeenError as seen:
        return np.asarray(seen.args[0])
    raise AssertionError("the backbone was not asked")


# --- errors ----------------------------------------------------------------------------------


def nearest_window(whole: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The window of ``whole`` (T, H, W, 3), mirrored or not, that ``seen`` was cut from."""
    height, width = seen.shape[1:3]
    found = []
    for candidate in (whole, whole[:, :, ::-1]):
        windows = sliding_window_view(candidate[0, ..., 0], (height, width))[..., ::9, ::9]
        distance = np.abs(windows - seen[0, ::9, ::9, 0]).mean((2, 3))
        top, left = np.unravel_index(distance.argmin(), distance.shape)
        window = candidate[:, top : top + height, left : left + width]
        found.append((distance.min(), window))
    return min(found, key=lambda pair: pair[0])[1]


@cache
def moving(size: tuple[int, int], num_frames: int) -> np.ndarray:
    """A photograph scaled to ``size`` and rolled along from frame to frame: uint8 (T, H, W, 3)."""
    (frame,) = resized(read_image(STILL)[None], size)
    still = (frame * 255).round().astype(np.uint8)
    return np.stack([np.roll(still, 3 * t, axis=1) for t in range(num_frames)])


def clip_of(experiment: str) -> np.ndarray:
    """Four frames of MOVi's size, six of a YouTube video's, or one picture of COCO's."""
    if "movi" in experiment:
        return moving((128, 128), 4)
    return moving((480, 640), 1) if "coco" in experiment else moving((360, 640), 6)


def described_training(experiment: str, number: int) -> np.ndarray:
    cfg, _ = spying(experiment)
    video, size = clip_of(experiment)[: cfg.clip_length], cfg.image_size
    whole = resized(video, (size, size) if "movi" in experiment else short_side(video, size))
    return nearest_window(whole, trained_on(experiment, clip_of(experiment), number))


def described_validation(experiment: str) -> np.ndarray:
    size, video = spying(experiment)[0].image_size, clip_of(experiment)
    seen = video if "movi" in experiment else square(video)
    return resized(seen, (size, size))


EXPERIMENTS = (
    "slotcontrast_movi_c",
    "videosaur_movi_c",
    "slotcontrast_ytvis2021",
    "videosaur_ytvis2021",
    "dinosaur_coco",
)


def rows() -> list[Row]:
    """Frames in [0, 1] in training and in validation."""
    out = []
    for experiment in EXPERIMENTS:
        part, video = f"experiment={experiment}", partial(clip_of, experiment)
        rounds = "movi" not in experiment  # the loader resizes to whole grey levels
        out += [
            Row(
                part,
                "training frames" + (", rounded to grey levels" if rounds else ""),
                partial(described_training, experiment, 0),
                lambda e=experiment, video=video: trained_on(e, video(), 0),
                0.51 / 255 if rounds else 1e-5,
            ),
            Row(
                part,
                "validation frames",
                partial(described_validation, experiment),
                lambda e=experiment, video=video: scored_on(e, video()),
                2e-5 if rounds else 1e-5,
            ),
        ]
    return out
