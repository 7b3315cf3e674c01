"""`vip`: people with classes of body parts, as `scripts/prepare.py vip` leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slotreel.data.image_io import IGNORE
from slotreel.data.stills import StillVideos

NUM_CLASSES = 20  # 0 is background


class Vip(StillVideos):
    """Videos of people with classes of body parts: labels 0 (background) to 19.

    Source: Zhou et al., "Adaptive temporal encoding network for video instance-level human
    parsing", ACM MM 2018 (the part with fine annotation, VIP_Fine). Layout, checked on opening:

        root/lists/val_videos.txt               one ID per line
        root/Images/ID/*.jpg
        root/Annotations/Category_ids/ID/*.png  of the same names

    Frames without a mask are not annotated. Values above 19 become 255: no score counts them.

    Args:
        root: the folder.
        split: lists/SPLIT_videos.txt.

    Raises:
        ConfigError: there is no such list.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(self, root: str, split: str = "val") -> None:
        self.option, self.root = "vip", Path(root)
        frames, masks = self.root / "Images", self.root / "Annotations" / "Category_ids"
        for folder in (frames, masks):
            if not folder.is_dir():
                raise self.differs(f"there is no folder {folder}")
        names = self.listed(self.root / "lists" / f"{split}_videos.txt", "_videos.txt")
        self.videos = [self.match(name, frames / name, masks / name) for name in names]
        self.check_masks()

    def ids(self, index: int, frame: int) -> np.ndarray:
        """Classes uint8 (H, W) of an annotated frame."""
        ids = super().ids(index, frame)
        return np.where(ids < NUM_CLASSES, ids, np.uint8(IGNORE))
