"""Where rows go beside metrics.jsonl: TensorBoard; wandb is in ``wandb_sink``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slotreel.runtime.wandb_sink import WandbSink

__all__ = ["TensorBoardSink", "WandbSink"]


class TensorBoardSink:
    """Scalars and pictures for TensorBoard (``pip install -e .[tb]``).

    Args:
        run_dir: event files go to its ``tensorboard`` folder.
    """

    def __init__(self, *, run_dir: Path, **_: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def media(self, step: int, name: str, path: Path) -> None:
        """Pictures only; TensorBoard needs another library for videos."""
        if path.suffix == ".png":
            import numpy as np
            from PIL import Image

            picture = np.asarray(Image.open(path).convert("RGB"))
            self.writer.add_image(f"media/{name}", picture, step, dataformats="HWC")

    def summary(self, values: Mapping[str, Any]) -> None:
        """Not kept by TensorBoard."""

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Not kept by TensorBoard; scores.json holds every row."""

    def artifact(self, path: Path) -> None:
        """Not kept by TensorBoard; the file stays where it is."""

    def close(self) -> None:
        """Flush the event file."""
        self.writer.close()
