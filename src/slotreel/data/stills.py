"""Videos stored as one picture per frame: what the sources of public data sets share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from slotreel.data.files import natural_key, pictures
from slotreel.data.image_io import IGNORE, image_size, read_image, read_labels
from slotreel.data.layouts import differs
from slotreel.errors import ConfigError, DataError, nearest
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip, VideoInfo

MAX_CHECKED = 50  # videos whose first and last mask are read on opening


class Still(NamedTuple):
    """One video: its frames in order, and the files of the truth of each."""

    id: str
    frames: list[Path]
    masks: list[tuple[Path, ...]]  # one entry per frame; () = not annotated


class StillVideos(VideoSource):
    """Base of sources whose frames are pictures.

    A subclass fills ``videos`` and, where a mask file is not a label map already, says in ``ids``
    how to read it. Frames without a mask are all 255 and not ``annotated``.

    Attributes:
        option: name after ``dataset=``.
        root: the folder of the data set.
        videos: what was found there.
        any_mask_size: whether masks may differ in size from their frames.
    """

    any_mask_size: ClassVar[bool] = False
    option: str
    root: Path
    videos: list[Still]

    def __len__(self) -> int:
        """Number of videos of the split."""
        return len(self.videos)

    def info(self, index: int) -> VideoInfo:
        """Name, length, (H, W) and file stems of a video; reads one header."""
        name, frames, _ = self.videos[index]
        stems = tuple(frame.stem for frame in frames)
        return VideoInfo(name, len(frames), image_size(frames[0]), stems)

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """Frames and their truth, numbered from 0.

        Raises:
            IndexError: there is no such frame.
            DataError: a file is damaged, or sizes differ within the video.
        """
        video = self.videos[index]
        numbers, pixels = read_frames(video, frames)
        truth = {
            place: (video.masks[n][0], self.ids(index, n))
            for place, n in enumerate(numbers)
            if video.masks[n]
        }
        labels, annotated = label_stack(truth, len(numbers), pixels.shape[1:3])
        return RawClip(pixels, labels, numbers, {}, annotated)

    def ids(self, index: int, frame: int) -> np.ndarray:
        """Labels uint8 (H0, W0) of an annotated frame."""
        return read_labels(self.videos[index].masks[frame][0])

    def differs(self, what: str) -> DataError:
        """The error for a folder in another layout, with what to type."""
        return differs(self.option, self.root, what)

    def listed(self, file: Path, ending: str = ".txt") -> list[str]:
        """Lines of a list of videos, whose name is a split and an ending.

        Raises:
            ConfigError: there is no such list, but there are others.
            DataError: there is none at all, or it is empty.
        """
        if not file.is_file():
            lists = file.parent.glob(f"*{ending}")
            known = [path.name.removesuffix(ending) for path in lists]
            if known:
                split = file.name.removesuffix(ending)
                raise ConfigError(
                    f"split={split}: {file.parent} has no such list; {nearest(split, known)}"
                )
            raise self.differs(f"there is no list {file}")
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        if not any(lines):
            raise self.differs(f"the list {file} is empty")
        return [line for line in lines if line]

    def match(self, name: str, frames: Path, masks: Path, every: bool = False) -> Still:
        """A video whose masks are named as its frames.

        Args:
            name: of the video.
            frames: folder of its frames.
            masks: folder of its masks.
            every: every frame must have one.

        Raises:
            DataError: there is no frame, or there are files without a partner.
        """
        shown, truth = pictures(frames), pictures(masks)
        if not shown:
            raise self.differs(f"{frames} holds no frame")
        stems = {frame.stem: frame for frame in shown}
        known = {mask.stem: mask for mask in truth}
        odd = (stems.keys() ^ known.keys()) if every else (known.keys() - stems.keys())
        if odd:
            lone = [(stems | known)[stem] for stem in sorted(odd, key=natural_key)]
            raise self.differs(
                f"{name} has {len(shown)} frames in {frames} but {len(truth)} masks in {masks}; "
                f"without a partner: {some_names(lone)}"
            )
        masks_of = {stem: (mask,) for stem, mask in known.items()}
        return Still(name, shown, [masks_of.get(frame.stem, ()) for frame in shown])

    def check_masks(self) -> None:
        """Read the first and last mask of up to 50 videos, evenly spread.

        Raises:
            DataError: one is damaged, holds ids that cannot be, or differs in size from its frame.
        """
        count = min(len(self.videos), MAX_CHECKED)
        for index in np.unique(np.linspace(0, len(self.videos) - 1, count).astype(int)):
            video = self.videos[index]
            known = [n for n, files in enumerate(video.masks) if files]
            for n in sorted({known[0], known[-1]} if known else ()):
                self.check_size(int(index), n, self.ids(int(index), n))

    def check_size(self, index: int, frame: int, labels: np.ndarray) -> None:
        """Compare a mask with its frame.

        Raises:
            DataError: they differ in size, in a set where they may not; names both files.
        """
        video = self.videos[index]
        size = image_size(video.frames[frame])
        if labels.shape != size and not self.any_mask_size:
            raise DataError(
                f"the mask {video.masks[frame][0]} is {labels.shape[0]} x {labels.shape[1]}, but "
                f"its frame {video.frames[frame]} is {size[0]} x {size[1]}: expected the same "
                "size; copy both from the same archive"
            )


def checked_numbers(name: str, count: int, frames: Sequence[int]) -> np.ndarray:
    """Frame numbers as int64 (T,).

    Raises:
        IndexError: one is outside 0 to ``count`` - 1.
    """
    numbers = np.asarray(frames, dtype=np.int64)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
        raise IndexError(f"{name} has frames 0 to {count - 1}, asked for {numbers.tolist()}")
    return numbers


def read_frames(video: Still, frames: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers int64 (T,) and pixels uint8 (T, H, W, 3) of some frames.

    Raises:
        IndexError: there is no such frame.
        DataError: a file is damaged, or sizes differ.
    """
    numbers = checked_numbers(video.id, len(video.frames), frames)
    files = [video.frames[n] for n in numbers]
    return numbers, stack_frames([(file, read_image(file)) for file in files])


def stack_frames(read: Sequence[tuple[Path, np.ndarray]]) -> np.ndarray:
    """Pictures of one video -> (T, ...).

    Raises:
        DataError: one differs in size from the first.
    """
    first, image = read[0]
    for path, other in read:
        if other.shape != image.shape:
            raise DataError(
                f"{path} is {other.shape[0]} x {other.shape[1]}, but {first.name} of the same "
                f"video is {image.shape[0]} x {image.shape[1]}: give all the same size"
            )
    return np.stack([other for _, other in read])


def label_stack(
    truth: Mapping[int, tuple[Path, np.ndarray]], count: int, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Label maps of some of ``count`` frames -> labels (T, H0, W0), annotated (T,).

    Args:
        truth: place in the clip -> file and its ids uint8 (H0, W0).
        count: T.
        size: of the result if no frame has a map; the others keep theirs.

    Raises:
        DataError: maps differ in size.
    """
    if truth:
        size = stack_frames(list(truth.values())).shape[1:]
    labels = np.full((count, *size), IGNORE, dtype=np.uint8)
    for place, (_, ids) in truth.items():
        labels[place] = ids
    return labels, np.array([place in truth for place in range(count)])


def some_names(paths: Sequence[Path], most: int = 5) -> str:
    """File names, the first few of many."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(path.name for path in paths[:most]) + more
