"""From clips to batches on the device."""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from slotreel.data.clips import TrainingClips
from slotreel.data.sampler import GlobalBatches, SampleKey
from slotreel.data.workers import WorkerGuard
from slotreel.errors import DataError, UserError
from slotreel.types import Batch, FrameFeatures, Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples -> one batch on the CPU, views still uint8 (B, T, C, Hi, Wi).

    Labels and hints that some of the clips lack are left out of the batch.

    Raises:
        DataError: clips differ in size.
    """
    first = samples[0]
    labels = [sample.labels for sample in samples if sample.labels is not None]
    shared = [name for name in first.hints if all(name in sample.hints for sample in samples)]
    return Batch(
        views=tuple(
            _stack(f"view {i}", [sample.views[i] for sample in samples])
            for i in range(len(first.views))
        ),
        frames=_stack("frames", [sample.frames for sample in samples]),
        clip_id=torch.tensor([sample.clip_id for sample in samples]),
        features=_stack_features([sample.features for sample in samples]),
        labels=_stack("labels", labels) if len(labels) == len(samples) else None,
        hints={name: _stack(name, [sample.hints[name] for sample in samples]) for name in shared},
    )


def _stack_features(features: Sequence[FrameFeatures | None]) -> FrameFeatures | None:
    """Features of all clips, or none."""
    present = [f for f in features if f is not None]
    if not present:
        return None

    def stack(parts: Sequence[Tensor | None]) -> Tensor | None:
        tensors = [part for part in parts if part is not None]
        return torch.stack(tensors) if tensors else None

    tokens = torch.stack([f.tokens for f in present])
    optional = [stack(parts) for parts in zip(*(f[2:] for f in present), strict=True)]
    return FrameFeatures(tokens, present[0].grid, *optional)


def _stack(name: str, tensors: list[Tensor]) -> Tensor:
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if len(shapes) > 1:
        raise DataError(
            f"clips of one batch differ in {name}: got shapes {', '.join(map(str, shapes))}; give "
            "all the same size, e.g. "
            "dataset.transform=[{_target_: slotreel.data.transforms.Resize, size: 224}]"
        )
    return torch.stack(tensors)


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """Move a batch, then turn uint8 views into float32 in [0, 1] there (a quarter of the traffic).

    Views that are float already are only moved. Features become float32 after the move as well.
    """

    def move(x: Tensor) -> Tensor:
        return x.to(device, non_blocking=True)

    def video(x: Tensor) -> Tensor:
        x = move(x)
        return x.float().div_(255) if x.dtype == torch.uint8 else x

    def maybe(x: Tensor | None) -> Tensor | None:
        return None if x is None else move(x)

    f = batch.features
    if f is not None:
        optional = [None if x is None else move(x).float() for x in f[2:]]
        f = FrameFeatures(move(f.tokens).float(), f.grid, *optional)
    return batch._replace(
        views=tuple(video(view) for view in batch.views),
        frames=move(batch.frames),
        clip_id=move(batch.clip_id),
        features=f,
        labels=maybe(batch.labels),
        hints={name: move(hint) for name, hint in batch.hints.items()},
        teacher_view=None if batch.teacher_view is None else video(batch.teacher_view),
    )


class TrainingLoader:
    """Endless CPU batches of one rank; each ``iter`` starts again at ``start_step``.

    Raises, while iterating:
        UserError: what reading a clip raised, from a worker or not, without the worker's traceback.
    """

    def __init__(
        self, loader: DataLoader[Sample | UserError], guard: WorkerGuard | None = None
    ) -> None:
        self._loader, self._guard = loader, guard

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self._loader)
        if self._guard is not None:  # after torch's own exit hooks, hence run before them
            atexit.register(self._guard.close)
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def training_loader(
    clips: TrainingClips,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
) -> TrainingLoader:
    """Endless batches, the same for any number of workers, from any step on.

    Workers are started afresh ("spawn"): they inherit no thread, CUDA context or signal handler
    of this process, and signals meant for it (SLURM sends them to the whole step) leave them alive.

    Args:
        clips: the training set.
        batch_size: clips per step over all ranks.
        seed: order of the clips.
        rank: this process among ``world_size``.
        world_size: number of processes.
        start_step: first step to deliver.
        num_workers: processes that read; 0 reads in this one.
        device: where batches go afterwards; CUDA gets pinned memory.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
    """
    batches = GlobalBatches(len(clips), batch_size, seed, rank, world_size, start_step)
    context = multiprocessing.get_context("spawn") if num_workers else None
    guard = WorkerGuard(context, num_workers) if context else None
    loader = DataLoader(
        _Shielded(clips),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_collate_or_error,
        pin_memory=torch.device(device).type == "cuda",
        persistent_workers=num_workers > 0,
        multiprocessing_context=context,
        worker_init_fn=guard,
    )
    return TrainingLoader(loader, guard)


class _Shielded(Dataset[Sample | UserError]):
    """Hands errors over as values: a worker that raises would bury the message in a traceback."""

    def __init__(self, clips: TrainingClips) -> None:
        self.clips = clips

    def __getitem__(self, key: SampleKey) -> Sample | UserError:
        try:
            return self.clips[key]
        except UserError as error:
            return error.with_traceback(None)


def _collate_or_error(samples: list[Sample | UserError]) -> Batch | UserError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        good.append(sample)
    try:
        return collate(good)
    except UserError as error:
        return error.with_traceback(None)
