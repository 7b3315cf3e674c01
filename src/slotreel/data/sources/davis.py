"""`davis2016`, `davis2017`: the DAVIS archives as `scripts/prepare_davis.py` leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slotreel.data.files import natural_key, pictures
from slotreel.data.image_io import image_size, read_image, read_labels
from slotreel.data.sources.folder import stack_frames
from slotreel.errors import ConfigError, DataError, nearest
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip, VideoInfo

YEARS = (2016, 2017)
ANNOTATIONS = ("Annotations", "Annotations_unsupervised")


class Davis(VideoSource):
    """DAVIS videos with their masks.

    Sources: Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv:1704.00675; Caelles et al.,
    arXiv:1905.00737 (``Annotations_unsupervised``). The layout is checked on opening:

        root/ImageSets/{2016,2017}/{train,val}.txt   one sequence per line
        root/JPEGImages/480p/SEQ/00000.jpg
        root/{Annotations,Annotations_unsupervised}/480p/SEQ/00000.png

    Labels stay at the size of the mask file. Year 2017 keeps ids; 255 is void. Year 2016 has one
    object: every id above 0 becomes 1, 255 too, which is white there and not void.

    Args:
        root: the folder.
        year: 2016 or 2017.
        split: name of a list in ImageSets/YEAR.
        resolution: folder below JPEGImages and the masks.
        annotations: "Annotations", or "Annotations_unsupervised" (2017 only).

    Raises:
        ConfigError: an argument is outside its range.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(
        self,
        root: str,
        year: int = 2017,
        split: str = "val",
        resolution: str = "480p",
        annotations: str = "Annotations",
    ) -> None:
        if year not in YEARS:
            raise ConfigError(f"dataset.source.year={year}: expected 2016 or 2017")
        if annotations not in ANNOTATIONS:
            raise ConfigError(f"annotations={annotations}: {nearest(annotations, ANNOTATIONS)}")
        if year == 2016 and annotations != "Annotations":
            raise ConfigError(
                "annotations=Annotations_unsupervised has several objects and belongs to "
                "year=2017; type dataset.source.annotations=Annotations"
            )
        self.root, self.year = Path(root), year
        self.frames = self.root / "JPEGImages" / resolution
        self.masks = self.root / annotations / resolution
        for folder in (self.frames, self.masks):
            if not folder.is_dir():
                raise self._differs(f"there is no folder {folder}")
        self.sequences = self._listed(split)
        self._files = [self._match(name) for name in self.sequences]

    def _differs(self, what: str) -> DataError:
        return DataError(
            f"{what}. Prepare the archive with `python scripts/prepare_davis.py --root {self.root} "
            "ARCHIVE.zip`, or point to another place with dataset.source.root=FOLDER"
        )

    def _listed(self, split: str) -> list[str]:
        folder = self.root / "ImageSets" / str(self.year)
        file = folder / f"{split}.txt"
        if not file.is_file():
            known = sorted(path.stem for path in folder.glob("*.txt"))
            if known:
                raise ConfigError(
                    f"dataset.source.split={split}: {folder} has no such list; "
                    f"{nearest(split, known)}"
                )
            raise self._differs(f"there is no list {file}")
        names = file.read_text(encoding="utf-8").split()
        if not names:
            raise self._differs(f"the list {file} is empty")
        return names

    def _match(self, name: str) -> list[tuple[Path, Path]]:
        """Frames of a sequence with their masks."""
        frames = {path.stem: path for path in pictures(self.frames / name)}
        masks = {path.stem: path for path in pictures(self.masks / name)}
        if not frames:
            raise self._differs(f"{self.frames / name} holds no frame, but the list names it")
        if frames.keys() != masks.keys():
            odd = sorted(frames.keys() ^ masks.keys(), key=natural_key)
            lone = [(frames.get(stem) or masks[stem]).name for stem in odd[:5]]
            raise self._differs(
                f"{name} has {len(frames)} frames in {self.frames} but {len(masks)} masks in "
                f"{self.masks}; without a partner: {', '.join(lone)}"
                + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")
            )
        return [(frames[stem], masks[stem]) for stem in frames]

    def __len__(self) -> int:
        """Number of sequences of the split."""
        return len(self.sequences)

    def info(self, index: int) -> VideoInfo:
        """Name, length and (H, W) of a sequence; reads one header."""
        files = self._files[index]
        return VideoInfo(
            self.sequences[index],
            len(files),
            image_size(files[0][0]),
            tuple(frame.stem for frame, _ in files),
        )

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """Frames and masks, numbered from 0.

        Raises:
            IndexError: there is no such frame.
            DataError: a file is damaged, or sizes differ within the sequence.
        """
        files = self._files[index]
        numbers = np.asarray(frames, dtype=np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(files):
            raise IndexError(
                f"{self.sequences[index]} has frames 0 to {len(files) - 1}, asked for "
                f"{numbers.tolist()}"
            )
        video = stack_frames([(files[n][0], read_image(files[n][0])) for n in numbers])
        labels = stack_frames([(files[n][1], read_labels(files[n][1])) for n in numbers])
        if self.year == 2016:
            labels = (labels > 0).astype(np.uint8)
        return RawClip(video, labels, numbers, {})
