"""The model a command names: a checkpoint, a model without training, or maps on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import build_objective
from slotreel.baselines.trivial import TRIVIAL_ROWS, Trivial
from slotreel.errors import CheckpointError, ConfigError
from slotreel.features_only import FeaturesOnly
from slotreel.importing.hub import locate
from slotreel.interfaces import Objective
from slotreel.results.stored import StoredMasks
from slotreel.training import checkpoint

UNTRAINED_IMAGE_SIZE = 224  # what a model without training sees of real video, pixels


class Subject(NamedTuple):
    """What is scored or run."""

    objective: Objective
    config: DictConfig  # a checkpoint's own, else the command's
    label: str  # what tables call it
    kind: str  # of its row, see ``scores.Row``
    step: int | None
    directory: Path  # where its results go unless told otherwise


def load_subject(cfg: DictConfig) -> Subject:
    """The one of ``checkpoint=``, ``model=`` and ``results=`` that is given.

    Raises:
        ConfigError: none or several are given; CheckpointError, DataError: it cannot be read.
    """
    given = {
        "checkpoint=": bool(cfg.checkpoint),
        "model=": "_target_" in (cfg.get("model") or {}),
        "results=": bool(cfg.get("results")),
    }
    named = [key for key, there in given.items() if there]
    if not named:
        raise ConfigError(
            "name what to run: checkpoint=RUN_OR_FILE, or one without training: model=blocks"
        )
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} exclude each other; drop one")
    if given["checkpoint="]:
        return _load_checkpoint(cfg)
    runs = Path(cfg.paths.runs)
    if given["results="]:
        folder = Path(cfg.results)
        objective = StoredMasks(folder)
        name = folder.resolve().name
        return Subject(objective, cfg, f"results {name}", "model", None, runs / f"results_{name}")
    cfg = cfg.copy()
    cfg.image_size = cfg.image_size or UNTRAINED_IMAGE_SIZE
    built = build_objective(cfg)
    choices = HydraConfig.get().runtime.choices
    name = label = str(choices["model"])
    kind = "model"
    if isinstance(built, Trivial):
        label, kind = TRIVIAL_ROWS[name], "oracle" if built.oracle else "trivial"
    elif isinstance(built, FeaturesOnly):
        label = str(choices["backbone"])
    with_backbone = f"{name}-{choices['backbone']}" if hasattr(built, "backbone") else name
    return Subject(built, cfg, label, kind, None, runs / with_backbone)


def _load_checkpoint(cfg: DictConfig) -> Subject:
    loaded = load_checkpoint(cfg.checkpoint)
    return Subject(
        loaded.objective, loaded.config, "checkpoint", "model", loaded.step, loaded.directory
    )


class Loaded(NamedTuple):
    """A trained model and what is known of it."""

    objective: Objective
    config: DictConfig
    step: int
    directory: Path  # see ``run_directory``


def load_checkpoint(spec: str | Path) -> Loaded:
    """The model of a checkpoint; weights are fetched only if it leaves some out.

    Args:
        spec: what ``checkpoint.find`` takes, or ``hub:NAME``.

    Raises:
        CheckpointError: it cannot be read, or weights that it leaves out cannot be had.
    """
    path, content = checkpoint.find(locate(spec))
    config = OmegaConf.create(content["config"])
    assert isinstance(config, DictConfig)
    missing = not checkpoint.holds_everything(content)
    with _blaming(path, content) if missing else nullcontext():
        objective = build_objective(config, weights=missing)
    checkpoint.load_objective(objective, content, str(path))
    return Loaded(objective, config, content["step"], run_directory(path))


def run_directory(path: Path) -> Path:
    """The run a checkpoint file belongs to; of a lone file or an exported one, its folder."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


@contextmanager
def _blaming(path: Path, content: dict[str, Any]) -> Iterator[None]:
    """Weights that cannot be had, said of the checkpoint that needs them."""
    try:
        yield
    except CheckpointError as error:
        origins = sorted({reference["origin"] for reference in content["frozen"].values()})
        raise CheckpointError(
            f"{path} leaves out its frozen backbone ({', '.join(origins)}), and that cannot be had "
            f"here: {error}. Or, where it can be had, type python scripts/export.py {path} OUT "
            "--full and bring OUT: it holds everything"
        ) from error
