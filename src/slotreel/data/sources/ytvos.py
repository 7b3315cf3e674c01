"""`ytvos`: YouTube-VOS 2018 or 2019 as `scripts/prepare.py ytvos` leaves it."""

from __future__ import annotations

import json
from pathlib import Path

from slotreel.data.files import visible
from slotreel.data.stills import Still, StillVideos
from slotreel.errors import ConfigError, DataError, nearest


class YouTubeVos(StillVideos):
    """YouTube videos with object ids on every fifth frame.

    Source: Xu et al., "YouTube-VOS: a large-scale video object segmentation benchmark",
    arXiv:1809.03327. Both editions have this layout, checked on opening:

        root/SPLIT/meta.json                  names the videos; without it all folders are taken
        root/SPLIT/JPEGImages/ID/NNNNN.jpg
        root/SPLIT/Annotations/ID/NNNNN.png

    ``train`` holds the annotated frames alone. ``train_all_frames`` holds all of them; its masks
    are those of ``train`` where it has none of its own. ``valid`` publishes masks of frames in
    which an object first appears, most often the first only: nothing else there can be scored.

    Args:
        root: the folder.
        split: train, valid, train_all_frames, valid_all_frames, test or any other folder.

    Raises:
        ConfigError: there is no such split.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(self, root: str, split: str = "train") -> None:
        self.option, self.root = "ytvos", Path(root)
        self.split = self.root / split
        frames = self.split / "JPEGImages"
        if not frames.is_dir():
            known = sorted(path.parent.name for path in self.root.glob("*/JPEGImages"))
            if known and not self.split.is_dir():
                raise ConfigError(f"split={split}: {self.root} has none; {nearest(split, known)}")
            raise self.differs(f"there is no folder {frames}")
        masks = self.split / "Annotations"
        if not masks.is_dir():
            masks = self.root / split.removesuffix("_all_frames") / "Annotations"
        self.videos = self._found(frames, masks)
        self.check_masks()

    def _found(self, frames: Path, masks: Path) -> list[Still]:
        there = [entry.name for entry in visible(frames) if entry.is_dir()]
        names = self._named() or there
        lacking = sorted(set(names) - set(there))
        if lacking:
            raise self.differs(
                f"{frames} lacks {len(lacking)} of the {len(names)} videos of meta.json, e.g. "
                f"{', '.join(lacking[:5])}"
            )
        if not names:
            raise self.differs(f"{frames} holds no video")
        videos = [self.match(name, frames / name, masks / name) for name in names]
        if not any(files for video in videos for files in video.masks):
            raise self.differs(f"there is no mask in {masks}")
        return videos

    def _named(self) -> list[str]:
        """Videos of meta.json; [] if there is no such file."""
        file = self.split / "meta.json"
        if not file.is_file():
            return []
        try:
            return sorted(json.loads(file.read_text(encoding="utf-8"))["videos"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'cannot read {file}: {error!r}; expected {{"videos": {{ID: ...}}}}, copy it '
                "again from the archive"
            ) from error
