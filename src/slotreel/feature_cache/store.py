"""Features of every frame on disk: shards of safetensors that are found by arithmetic.

FOLDER/index.json            what the features were made of, and the layout
FOLDER/00000.safetensors     frames 0 to n - 1 of all videos laid end to end; 00001 the next n, ...

Frame f of video v has number ``offset[v] + f``; its shard and row are quotient and remainder by
``frames_per_shard``. So any frame costs one read, no table grows with the data, and a shard is
whole or not there: what was written before a kill stays. safetensors maps files to memory, knows
bf16 and fp8, and is a dependency already (zarr is not, and NumPy has neither type).
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from slotreel.errors import DataError
from slotreel.feature_cache.layout import Layout, name_of, pack, unpack
from slotreel.files import replacing, write_json
from slotreel.fingerprint import digest
from slotreel.frozen import digest as tensors_digest

INDEX, FORMAT = "index.json", 1
_OPEN_SHARDS = 64  # kept open by one reader


class FeatureStore:
    """A folder of features.

    Args:
        folder: of the cache.

    Attributes:
        layout: where each frame is.
        made_of: what the features depend on.
        backbone: configuration of the network that made them.
        grid: (h, w) of their tokens.
        key: identity of all of that; every shard carries it.

    Raises:
        DataError: there is no cache, or its index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            layout = dict(content["layout"])
            layout["num_frames"] = tuple(layout["num_frames"])
            layout["fields"] = {k: tuple(v) for k, v in layout["fields"].items()}
            self.layout = Layout(**layout)
            self.made_of: dict[str, Any] = content["made_of"]
            self.backbone: dict[str, Any] = content["backbone"]
            self.grid = (int(content["grid"][0]), int(content["grid"][1]))
            whole = content["format"] == FORMAT
        except FileNotFoundError as error:
            raise DataError(
                f"{folder} holds no features ({INDEX} is missing); write them: "
                f"python scripts/cache_features.py --out {folder} OVERRIDES..."
            ) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{folder / INDEX} is damaged ({error}); delete {folder}") from error
        if not whole:
            raise DataError(f"{folder} is of another format than {FORMAT}; write it again")
        self.key = digest(content)
        self._shards: OrderedDict[int, Any] = OrderedDict()

    @staticmethod
    def create(
        folder: Path,
        layout: Layout,
        grid: tuple[int, int],
        made_of: Mapping[str, Any],
        backbone: Mapping[str, Any],
    ) -> FeatureStore:
        """Write the index of a new cache; shards follow."""
        content = {
            "format": FORMAT, "grid": list(grid), "made_of": made_of, "backbone": backbone,
            "layout": asdict(layout),
        }  # fmt: skip
        write_json(folder / INDEX, content)
        return FeatureStore(folder)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": OrderedDict()}  # each process opens its own

    def path(self, shard: int) -> Path:
        """File of a shard."""
        return self.folder / f"{shard:05d}.safetensors"

    def missing(self) -> list[int]:
        """Shards that are not there."""
        return [n for n in range(self.layout.num_shards) if not self.path(n).is_file()]

    def write(self, shard: int, features: Mapping[str, Tensor]) -> None:
        """Write one shard, whole or not at all.

        Args:
            shard: its number.
            features: float32 (frames, ...) by ``name_of(variant, field)``.

        Raises:
            OSError: the disk is full, or cannot be written to.
        """
        tensors: dict[str, Tensor] = {}
        for name, x in features.items():
            tensors |= pack(name, x.cpu(), self.layout.dtype)
        metadata = {"key": self.key, "sha256": tensors_digest(tensors)}
        with replacing(self.path(shard)) as temporary, temporary.open("wb") as file:
            file.write(save(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())

    def read(self, video: int, frames: Sequence[int], variant: int = 0) -> dict[str, Tensor]:
        """Every field of some frames, (T, ...), in the stored type (fp8: as bf16, without loss).

        Raises:
            IndexError: there is no such frame.
            DataError: a shard is missing, damaged or belongs to another cache.
        """
        places = [self.layout.place(video, int(frame)) for frame in frames]
        parts: dict[str, list[Tensor]] = {field: [] for field in self.layout.fields}
        for shard, group in groupby(places, key=lambda place: place[0]):
            rows = [row for _, row in group]
            for field in parts:
                parts[field].append(self._rows(shard, name_of(variant, field), rows))
        return {field: torch.cat(found) for field, found in parts.items()}

    def _rows(self, shard: int, name: str, rows: Sequence[int]) -> Tensor:
        file = self._shard(shard)

        def cut(key: str) -> Tensor:
            part = file.get_slice(key)
            if list(rows) == list(range(rows[0], rows[-1] + 1)):
                return part[rows[0] : rows[-1] + 1]
            return torch.cat([part[row : row + 1] for row in rows])

        return unpack(cut(name), cut(f"{name}.scale") if self.layout.dtype == "fp8" else None)

    def _shard(self, number: int) -> Any:
        if number not in self._shards:
            self._shards[number] = self.opened(number)
            if len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
        self._shards.move_to_end(number)
        return self._shards[number]

    def opened(self, number: int) -> Any:
        """A shard, open.

        Raises:
            DataError: it is missing, torn, or belongs to another cache.
        """
        path = self.path(number)
        if not path.is_file():
            raise DataError(f"{path} is missing; {_again(self.folder)}")
        try:
            file = safe_open(path, framework="pt")
            metadata = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is damaged ({error}); {_again(self.folder)}") from error
        if metadata.get("key") != self.key:
            raise DataError(
                f"{path} belongs to another cache; delete it, then {_again(self.folder)}"
            )
        return file

    def whole(self, number: int) -> bool:
        """Whether a shard is there, belongs here and has the bytes that were written."""
        try:
            file = self.opened(number)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (DataError, SafetensorError):
            return False
        return tensors_digest(tensors) == file.metadata()["sha256"]


def _again(folder: Path) -> str:
    return f"type the command that wrote {folder} again: it writes what is missing or damaged"
