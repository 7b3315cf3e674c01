#!/usr/bin/env python3
"""Segment any video: ./predict.py checkpoint=RUN input=VIDEO_OR_FOLDER_OR_GLOB output=DIR."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "src"))

from slotreel.launch import ensure_environment  # noqa: E402

ensure_environment()

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from slotreel.cli import run_app  # noqa: E402


@hydra.main(version_base="1.3", config_path="conf", config_name="predict")
def main(cfg: DictConfig) -> None:
    """Everything heavy is imported here, so that --help and --cfg job answer at once."""
    from slotreel.predicting import predict

    predict(cfg)


if __name__ == "__main__":
    run_app(main, ROOT / "conf")
