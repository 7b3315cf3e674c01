"""Run the entry points in this process: what ``./train.py …`` does, without its five seconds."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from slotreel import evaluation, main
from slotreel.assemble import build_objective
from slotreel.cli import check_groups, quote_path
from slotreel.interfaces import Objective

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
DOUBLES = ROOT / "tests" / "doubles" / "conf"
TINY = (
    "debug=tiny",
    "logger=none",
    "trainer.trivial_rows=false",
    "decoder.hidden_dim=16",
    "dataset.source.num_videos=8",
    "dataset.validation.moving_shapes.data.num_videos=2",
)
# Overrides that give experiments with a pretrained ViT random weights, of one block.
RANDOM_VIT = ("backbone.weights=random", "+backbone.model_args.depth=1")


def composed(name: str, *overrides: str, directory: Path | None = None) -> DictConfig:
    """The configuration a command line gives; Hydra believes it runs in ``directory``."""
    typed = [quote_path(o) for o in overrides]
    check_groups(["--config-dir", str(DOUBLES), *typed], CONF)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        path = f"hydra.searchpath=[file://{DOUBLES}]"
        cfg = compose(name, [*typed, path], return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.overrides.task = list(overrides)
        cfg.hydra.runtime.output_dir = str(directory)
        cfg.hydra.mode = "RUN"
    HydraConfig.instance().set_config(cfg)
    task = cfg.copy()
    with open_dict(task):
        del task["hydra"]
    return task


@cache
def built(experiment: str) -> tuple[DictConfig, Objective]:
    """Configuration and model of an experiment, its ViT of one block with random weights."""
    cfg = composed("train", f"experiment={experiment}", *RANDOM_VIT)
    return cfg, build_objective(cfg)


def train(directory: Path, *overrides: str, tiny: bool = True) -> Path:
    """Train into ``directory``; SystemExit carries the exit code of a signal."""
    base = [*(TINY if tiny else ()), f"paths.runs={directory.parent}"]
    directory.mkdir(parents=True, exist_ok=True)
    main.train(composed("train", *base, *overrides, directory=directory))
    return directory


def script(directory: Path) -> Path:
    """A program that calls ``train`` with its arguments, for tests that need a process."""
    path = directory.parent / "script.py"
    path.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from tests import running\n"
        "torch.set_num_threads(1)\n"
        "running.train(Path(sys.argv[1]), *sys.argv[2:])\n"
    )
    return path


def environment() -> dict[str, str]:
    """Environment of such a process: this checkout, whatever is installed."""
    paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def metrics(directory: Path) -> dict[int, dict[str, Any]]:
    """metrics.jsonl by step, later lines win."""
    rows: dict[int, dict[str, Any]] = {}
    for row in lines(directory):
        rows.setdefault(row["step"], {}).update(row)
    return rows


def evaluate(directory: Path, *overrides: str) -> Path:
    """What ``./eval.py`` does, written to ``directory/out``; without trivial rows unless asked."""
    output = directory / "out"
    runs = f"paths.runs={directory / 'runs'}"
    typed = ("logger=none", f"output={output}", runs, "trivial_rows=false", *overrides)
    evaluation.eval(composed("eval", *typed, directory=directory))
    return output


def lines(directory: Path) -> list[dict[str, Any]]:
    """metrics.jsonl as written."""
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
