#!/usr/bin/env python3
"""Score a checkpoint or a trivial row: ./eval.py checkpoint=RUN [validate=…] | model=blocks."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "src"))

from slotreel.launch import ensure_environment  # noqa: E402

ensure_environment()

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from slotreel.cli import run_app  # noqa: E402


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> None:
    """Everything heavy is imported here, so that --help and --cfg job answer at once."""
    from slotreel.evaluation import eval

    eval(cfg)


if __name__ == "__main__":
    run_app(main, ROOT / "conf")
