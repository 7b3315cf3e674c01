"""The predict command: the user's videos through a checkpoint, a trivial row or propagation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import image_size_of, make
from slotreel.command import command, say
from slotreel.data.image_io import IGNORE, read_labels
from slotreel.data.inputs import InputVideo, open_input
from slotreel.errors import ConfigError, DataError, nearest
from slotreel.inference.background import BackgroundRule
from slotreel.inference.predict import predict_video
from slotreel.inference.views import VIEWS
from slotreel.inference.writer import Drawing
from slotreel.interfaces import Objective
from slotreel.loading import load_subject
from slotreel.runtime.distributed import World, choose_device
from slotreel.runtime.logging import setup_logging
from slotreel.runtime.progress import counting
from slotreel.streaming import as_size

log = logging.getLogger(__name__)
FORMATS = ("mp4", "gif")


@command
def predict(cfg: DictConfig) -> None:
    """Segment videos: masks, pictures and slots of each into ``output``."""
    setup_logging(None, 0)
    _check_keys(cfg)
    drawing, background = _drawing(cfg), BackgroundRule(cfg.background)
    videos = open_input(cfg.input)
    first_labels = _first_labels(cfg, videos)
    device = choose_device(cfg.device, World())
    objective, trained, *_ = load_subject(cfg)
    _warn_of_other_data(trained)
    objective = _conditioned(cfg, objective).to(device)
    trained_size = image_size_of(trained)
    known = trained.num_slots if first_labels is None else _num_objects(first_labels)
    lines = []
    for video in videos:
        drawing = drawing._replace(fps=video.fps or cfg.fps, num_slots=known)
        folder, total = Path(cfg.output) / video.name, video.info.num_frames
        _refuse_overwriting(video, folder, drawing)
        size = objective.input_size(video.info.size, trained_size)
        with counting(video.name, "frames") as count, _named_write_errors(folder):
            predict_video(
                objective,
                video.frames,
                video.info,
                Path(cfg.output),
                image_size=as_size(cfg.image_size) if cfg.image_size else size,
                device=device,
                masks=cfg.masks,
                chunk=cfg.chunk,
                first_labels=first_labels,
                background=background,
                drawing=drawing,
                progress=partial(_count, count, total),
            )
        ids = "ids of first_mask=" if objective.conditional else "slot + 1"
        lines += _outputs(video, folder, drawing, ids)
    say("\n".join(lines))


def _count(count: Callable[[int, int], None], total: int, read: int, written: int) -> None:
    """A model that answers late is counted twice: frames read, then frames written."""
    count(written or read, total)


def _check_keys(cfg: DictConfig) -> None:
    for key in ("input", "output"):
        if not cfg[key]:
            raise ConfigError(
                f"{key}= is missing; type ./predict.py checkpoint=RUN input=VIDEO output=DIR"
            )
    for key in ("chunk", "gif_width", "fps"):
        if cfg[key] <= 0:
            raise ConfigError(f"expected {key} above 0, got {cfg[key]}")


def _drawing(cfg: DictConfig) -> Drawing:
    views = [cfg.view] if isinstance(cfg.view, str) else list(cfg.view or [])
    for key, words, known in (("view", views, VIEWS), ("format", [cfg.format], FORMATS)):
        for word in words:
            if word not in known:
                raise ConfigError(f"{key} has no option {word}; {nearest(str(word), known)}")
    return Drawing(tuple(dict.fromkeys(views)), cfg.format, gif_width=cfg.gif_width)


# --- the model -------------------------------------------------------------------------------


def _conditioned(cfg: DictConfig, objective: Objective) -> Objective:
    """The objective, or what spreads masks of the first frame by its features; linked if asked."""
    if cfg.get("propagation"):
        objective = make(cfg.propagation)(objective)
    if cfg.first_mask and not objective.conditional:
        raise ConfigError(
            "first_mask= is for propagation, and this model finds objects by itself; type "
            "propagation=dino beside it, or drop first_mask="
        )
    if cfg.get("propagation") and cfg.background != "none":
        raise ConfigError(
            f"background={cfg.background} names a slot, and propagation knows the background from "
            "first_mask=; drop background="
        )
    return make(cfg.tracks)(objective) if cfg.get("tracks") else objective


def _first_labels(cfg: DictConfig, videos: list[InputVideo]) -> np.ndarray | None:
    """Ids uint8 (H, W) of the user's masks of the first frame."""
    if not cfg.first_mask:
        if cfg.get("propagation"):
            raise ConfigError(
                "propagation= spreads masks of the first frame; type first_mask=PNG, ids of the "
                "size of that frame: 0 background, 1, 2, ... objects, 255 not known"
            )
        return None
    if len(videos) > 1:
        raise ConfigError(
            f"first_mask= belongs to one video, and {cfg.input} holds {len(videos)}; give them one "
            "by one"
        )
    labels = read_labels(cfg.first_mask)
    size = videos[0].info.size
    if labels.shape != size:
        raise DataError(
            f"the mask {cfg.first_mask} is {labels.shape[0]} x {labels.shape[1]} (height x width), "
            f"and the first frame of {videos[0].path} is {size[0]} x {size[1]}: draw it on that "
            "frame, or resize it without blending ids (nearest)"
        )
    if not _num_objects(labels):
        raise DataError(
            f"the mask {cfg.first_mask} marks no object: expected ids 1 to {IGNORE - 1} somewhere, "
            f"got only {', '.join(map(str, np.unique(labels)))}"
        )
    return labels


def _num_objects(labels: np.ndarray) -> int:
    """The highest id, void left out; 0 if there is none."""
    return int(labels[labels < IGNORE].max(initial=0))


def _warn_of_other_data(trained: DictConfig) -> None:
    """A checkpoint that has seen generated shapes only says so before it fails on real video."""
    source = OmegaConf.select(trained, "dataset.source")
    if source is not None and "moving_shapes" in OmegaConf.to_yaml(source):
        log.warning(
            "this checkpoint was trained on generated moving shapes only: real video is outside "
            "what it has seen and its masks there mean little. Without training, try "
            "model=feature_kmeans backbone=dinov2_vits14; or train on videos of your own with "
            "./train.py dataset=folder paths.data=FOLDER"
        )


# --- files and words -------------------------------------------------------------------------


def _refuse_overwriting(video: InputVideo, folder: Path, drawing: Drawing) -> None:
    written = [folder / "masks", *drawing.paths(folder)]
    if video.path.resolve() in [path.resolve() for path in written]:
        raise DataError(
            f"predict would write to {video.path}, which is its own input; choose another output="
        )


@contextmanager
def _named_write_errors(folder: Path) -> Iterator[None]:
    """What the system says about files, as an error for the user; readers have their own."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to {folder}: {error.strerror or error}; choose another output= or make "
            "room there"
        ) from error


def _outputs(video: InputVideo, folder: Path, drawing: Drawing, ids: str) -> list[str]:
    """Lines of the table of what was written."""
    height, width = video.info.size
    rows = [("masks", folder / "masks", f"indexed PNG, {ids}; 0 = background")]
    rows += [
        (view, path, "") for view, path in zip(drawing.views, drawing.paths(folder), strict=True)
    ]
    if any((folder / "slots").glob("*.npz")):
        rows.append(("arrays", folder / "slots", "slots and soft masks, 256 frames a file"))
    wide = max(len(str(path)) for _, path, _ in rows)
    head = f"{video.name}: {video.info.num_frames} frames, {width} x {height}, {drawing.fps:g} fps"
    return [head, *(f"  {what:13}{path!s:{wide}}  {note}".rstrip() for what, path, note in rows)]
