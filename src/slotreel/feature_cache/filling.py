"""Write the features of every frame of a training set."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from slotreel.assemble import build_objective
from slotreel.data.sampler import SampleKey
from slotreel.errors import ConfigError, DataError, UserError, nearest
from slotreel.feature_cache.encoding import Encoder, encoder_of
from slotreel.feature_cache.facts import code, facts, refuse_differences
from slotreel.feature_cache.layout import DTYPES, SHARD_BYTES, Layout, name_of
from slotreel.feature_cache.live import with_live_backbone
from slotreel.feature_cache.store import INDEX, FeatureStore
from slotreel.files import held
from slotreel.fingerprint import weights_version
from slotreel.runtime.progress import counting

log = logging.getLogger(__name__)
FRAMES_PER_CALL = 32  # read and encoded together


class Filling:
    """A cache to be written or gone on with.

    Args:
        cfg: a resolved configuration of ``train``.
        folder: of the cache.
        dtype: fp32, bf16 or fp8.
        crops: stored draws of random transforms.
        device: where the backbone runs.
        shard_bytes: size of a shard, of a new cache.

    Attributes:
        layout: where each frame is, or will be.
        todo: shards that are missing, torn or of another cache.

    Raises:
        ConfigError: the recipe's frames cannot be stored, or ``folder`` holds other features.
    """

    def __init__(
        self,
        cfg: DictConfig,
        folder: Path,
        dtype: str,
        crops: int,
        device: torch.device,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"--dtype {dtype}: {nearest(dtype, DTYPES)}")
        cfg = with_live_backbone(cfg)
        self.folder, self.workers = folder, int(cfg.trainer.num_workers)
        self.encoder = encoder_of(cfg, build_objective(cfg), crops, device)
        source, recipe = self.encoder.source, self.encoder.recipe
        first = self.encoder(recipe.pixels(source, 0, range(1), 0), 0)
        fields = {f: tuple(first[name_of(0, f)].shape[1:]) for f in self.encoder.fields}
        lengths = [source.info(i).num_frames for i in range(len(source))]
        self.layout = Layout.plan(lengths, recipe.variants, fields, dtype, shard_bytes)
        self.grid = self.encoder.backbone.grid(self.encoder.size())
        self.made_of = facts(cfg, source, crops) | {
            "weights": weights_version(self.encoder.backbone), "code": code(), "dtype": dtype,
            "fields": list(fields),
        }  # fmt: skip
        self.backbone: Any = OmegaConf.to_container(cfg.backbone, resolve=True)
        self.todo = list(range(self.layout.num_shards))
        if (folder / INDEX).is_file():
            store = FeatureStore(folder)
            refuse_differences(store.made_of, self.made_of, folder, "this command")
            self.layout = store.layout
            self.todo = [n for n in range(store.layout.num_shards) if not _opens(store, n)]

    def announce(self) -> str:
        """What will be written, in words."""
        layout = self.layout
        videos, frames = len(layout.num_frames), int(layout.offsets[-1])
        each = f"{layout.variants} variants x " if layout.variants > 1 else ""
        done = layout.num_shards - len(self.todo)
        there = f"; {done} of {layout.num_shards} shards are there" if done else ""
        return (
            f"{self.folder}: {videos} videos, {frames} frames x {each}"
            f"{', '.join(f'{k} {tuple(v)}' for k, v in layout.fields.items())} as {layout.dtype}: "
            f"{gigabytes(layout.total_bytes)}{there}"
        )

    def check_room(self) -> None:
        """Compare what is missing with the room on the disk.

        Raises:
            DataError: it does not fit, with what would.
        """
        place = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        free = shutil.disk_usage(place).free
        share = len(self.todo) / max(1, self.layout.num_shards)
        needed = int(self.layout.total_bytes * share)
        if needed > free:
            raise DataError(
                f"{self.folder} needs {gigabytes(needed)} more, and {place} has "
                f"{gigabytes(free)} left; {self._smaller()}"
            )

    def _smaller(self) -> str:
        names = list(DTYPES)
        types = names[names.index(self.layout.dtype) + 1 :]
        less = f"type --dtype {types[-1]} for a smaller one (another --out), " if types else ""
        return f"{less}free some room, or put it elsewhere: --out FOLDER"

    def write(self) -> FeatureStore:
        """Write what is missing; what is whole stays, whatever happens.

        Raises:
            ConfigError: another process writes there.
            DataError: the disk is full, or frames give features of several shapes.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(self.folder / ".lock") as mine:
            if not mine:
                raise ConfigError(f"another process writes to {self.folder}; wait for it")
            if (self.folder / INDEX).is_file():
                store = FeatureStore(self.folder)
            else:
                store = FeatureStore.create(
                    self.folder, self.layout, self.grid, self.made_of, self.backbone
                )
            for half in self.folder.glob(".*.safetensors"):  # of a process that was killed
                half.unlink()
            self._fill(store)
        return store

    def _fill(self, store: FeatureStore) -> None:
        units = _Units(self.encoder, [u for n in self.todo for u in _units(self, n)])
        frames = iter(_loaded(units, self.workers))
        total, done = len(units), 0
        with counting(str(self.folder), "calls of the backbone") as told:
            for number, shard in enumerate(self.todo):
                parts: dict[str, list[Tensor]] = {}
                for _, _, crop in _units(self, shard):
                    for name, x in self.encoder(next(frames), crop).items():
                        parts.setdefault(name, []).append(self._checked(name, x))
                    done += 1
                    told(done, total)
                try:
                    store.write(shard, {name: torch.cat(found) for name, found in parts.items()})
                except OSError as error:
                    whole = self.layout.num_shards - len(self.todo) + number
                    raise DataError(
                        f"could not write to {self.folder} ({error.strerror or error}); "
                        f"{whole} of {self.layout.num_shards} shards are whole and stay. "
                        f"To go on, type the same command again after this: {self._smaller()}"
                    ) from error

    def _checked(self, name: str, x: Tensor) -> Tensor:
        shape = self.layout.fields[name.partition(".")[2]]
        if tuple(x.shape[1:]) != tuple(shape):
            raise DataError(
                f"frames of these videos differ in size: features of {tuple(x.shape[1:])} and "
                f"{tuple(shape)}; type 'dataset.transform=[{{_target_: "
                "slotreel.data.transforms.Resize, size: ${image_size}}]'"
            )
        if not torch.isfinite(x).all():
            raise DataError("the backbone gives features that are not finite; check its weights")
        return x


class _Units(Dataset[Tensor | UserError]):
    """Frames to encode, read and cut; errors are handed over as values."""

    def __init__(self, encoder: Encoder, units: Sequence[tuple[int, range, int]]) -> None:
        self.source, self.recipe, self.units = encoder.source, encoder.recipe, units

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, number: int | SampleKey) -> Tensor | UserError:
        try:
            return self.recipe.pixels(self.source, *self.units[int(number)])  # type: ignore[arg-type]
        except UserError as error:
            return error.with_traceback(None)


def _units(filling: Filling, shard: int) -> Iterator[tuple[int, range, int]]:
    """The (video, frames, crop) of a shard."""
    crops = max(1, filling.encoder.recipe.crops)
    for crop in range(crops):
        for video, frames in filling.layout.pieces(shard):
            for start in range(0, len(frames), FRAMES_PER_CALL):
                yield video, frames[start : start + FRAMES_PER_CALL], crop


def _loaded(units: _Units, workers: int) -> Iterator[Tensor]:
    context = "spawn" if workers else None
    loader = DataLoader(
        units, batch_size=None, num_workers=workers, multiprocessing_context=context
    )
    for found in loader:
        if isinstance(found, UserError):
            raise found
        yield found


def _opens(store: FeatureStore, shard: int) -> bool:
    try:
        store.opened(shard)
    except DataError:
        return False
    return True


def gigabytes(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def damaged(store: FeatureStore) -> list[int]:
    """Shards whose bytes are not those that were written; reads everything."""
    with counting(str(store.folder), "shards") as told:
        found = []
        for number in range(store.layout.num_shards):
            if not store.whole(number):
                found.append(number)
            told(number + 1, store.layout.num_shards)
    return found
