"""Archives as published -> prepare -> an experiment, made small -> eval under its own protocols."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from slotreel import evaluation
from tests import running
from tests.datasets import movi_records, tiny_json

Script = Callable[[str], ModuleType]
SMALL = (
    "backbone.weights=random", "+backbone.model_args.depth=2", "slot_dim=16", "num_slots=3",
    "decoder.hidden_dim=16", "trainer.num_steps=2", "trainer.batch_size=2", "trainer.save_every=2",
    "trainer.num_workers=0", "trainer.trivial_rows=false", "logger=none",
)  # fmt: skip


def prepared(script: Script, tmp_path: Path, name: str, archive: Path) -> str:
    """The archive brought into place; returns paths.data=..."""
    root = tmp_path / "data" / name
    assert script("prepare").main([name, "--root", str(root), str(archive)]) == 0
    return f"paths.data={tmp_path / 'data'}"


def scored(tmp_path: Path, run: Path, validate: str, *overrides: str) -> dict[str, int]:
    """Number of videos by protocol of what eval stored; every score must be a share."""
    output = tmp_path / f"eval-{validate}"
    evaluation.eval(
        running.composed(
            "eval", f"checkpoint={run}", f"validate={validate}", "logger=none", f"output={output}",
            f"paths.runs={tmp_path}", "trivial_rows=false", *overrides, directory=tmp_path,
        )
    )  # fmt: skip
    protocols = json.loads((output / "scores.json").read_text())["sets"][validate]
    for stored in protocols.values():
        means = stored["rows"][0]["means"]
        assert 0 < means["mbo_video"] <= 1
        assert -1 <= means["fg_ari_video"] <= 1
    return {name: stored["num_videos"] for name, stored in protocols.items()}


def in_training(run: Path, place: str) -> float:
    return float(running.metrics(run)[2][f"val/{place}/mbo_video"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "size"), [("slotcontrast_movi_c", 28), ("videosaur_movi_c", 32)]
)
def test_movi(tmp_path: Path, script: Script, experiment: str, size: int) -> None:
    data = prepared(script, tmp_path, "movi_c", movi_records.write(tmp_path / "1.0.0"))
    run = running.train(
        tmp_path / "run", f"experiment={experiment}", data, *SMALL, f"image_size={size}", tiny=False
    )
    assert 0 < in_training(run, "movi_c/discovery_video") <= 1
    assert scored(tmp_path, run, "movi_c", data) == {"discovery_video": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "size", "place", "validation"),
    [
        ("slotcontrast_ytvis2021", 28, "ytvis2021/discovery_video_ytvis", "dataset.validation"),
        ("videosaur_ytvis2021", 32, "ytvis2021_chunks6/discovery_chunks6", "validate"),
    ],
)
def test_youtube_vis(
    tmp_path: Path, script: Script, experiment: str, size: int, place: str, validation: str
) -> None:
    archive = tiny_json.ytvis(tmp_path / "made", num_videos=5, num_frames=8)
    data = prepared(script, tmp_path, "ytvis2021", archive)
    name, protocol = place.split("/")
    run = running.train(
        tmp_path / "run", f"experiment={experiment}", data, *SMALL, f"image_size={size}",
        "dataset.source.num_validation=3", f"{validation}.{name}.data.num_validation=3", tiny=False,
    )  # fmt: skip
    assert 0 < in_training(run, place) <= 1

    def again(validate: str) -> str:
        return f"validate.{validate}.data.num_validation=3"

    # v3 to v5 are held back
    assert scored(tmp_path, run, name, data, again(name)) == {protocol: 3}
    first = "discovery_video_ytvis210"
    two = f"validate.{first}.protocol.max_videos=2"
    assert scored(tmp_path, run, first, data, again(first), two) == {first: 2}


@pytest.mark.slow
def test_coco(tmp_path: Path, script: Script) -> None:
    data = prepared(script, tmp_path, "coco", tiny_json.coco(tmp_path / "made"))
    run = running.train(
        tmp_path / "run", "experiment=dinosaur_coco", data, *SMALL, "image_size=28", tiny=False
    )
    assert 0 < in_training(run, "coco/discovery_image") <= 1
    assert scored(tmp_path, run, "coco", data) == {"discovery_image": 4}
