"""`davis2016`, `davis2017`: the DAVIS archives as `scripts/prepare.py` leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from slotreel.data.stills import StillVideos
from slotreel.errors import ConfigError, nearest

YEARS = (2016, 2017)
ANNOTATIONS = ("Annotations", "Annotations_unsupervised")


class Davis(StillVideos):
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

    any_mask_size: ClassVar[bool] = True

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
        self.option, self.root, self.year = f"davis{year}", Path(root), year
        frames, masks = (self.root / kind / resolution for kind in ("JPEGImages", annotations))
        for folder in (frames, masks):
            if not folder.is_dir():
                where = f"there is no folder {folder}"
                if annotations in folder.parts and annotations != "Annotations":
                    where += ", which DAVIS-2017-Unsupervised-trainval-480p.zip holds"
                raise self.differs(where)
        names = self.listed(self.root / "ImageSets" / str(year) / f"{split}.txt")
        self.videos = [self.match(n, frames / n, masks / n, every=True) for n in names]
        self.check_masks()

    def ids(self, index: int, frame: int) -> np.ndarray:
        """Labels uint8 (H0, W0) of a frame."""
        ids = super().ids(index, frame)
        return (ids > 0).astype(np.uint8) if self.year == 2016 else ids
