"""The commands as users type them: write, check, train, resume, score without the cache."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import OmegaConf

from slotreel.feature_cache.store import FeatureStore
from tests import running
from tests.datasets.helpers import ROOT
from tests.feature_cache.conftest import SMALL, filling

pytestmark = pytest.mark.slow
BACKBONE = tuple(o for o in SMALL if o.startswith("backbone"))
REST = (*(o for o in SMALL if not o.startswith("backbone")), "validate=moving_shapes",
        "validate.moving_shapes.data.num_videos=1", "trainer.trivial_rows=false")  # fmt: skip


def losses(run: Path) -> dict[int, float]:
    rows = running.metrics(run).items()
    return {step: row["train/loss"] for step, row in rows if "train/loss" in row}


def stand_in(folder: Path) -> tuple[str, str]:
    return "backbone=precomputed", f"backbone.path={folder}"


def test_write_train_resume_and_score_on_video(
    tmp_path: Path, benchmark: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    script, out = benchmark("cache_features"), tmp_path / "cache"
    typed = [*(o for o in REST if not o.startswith("trainer.num_workers")), *BACKBONE]
    typed += ["trainer.num_workers=1"]  # a process that reads
    arguments = ["--out", str(out), "--dtype", "fp32"]
    assert script.main([*arguments, "--dry-run", *typed]) == 0
    assert not out.exists()
    assert script.main([*arguments, *typed]) == 0
    assert "backbone=precomputed" in capsys.readouterr().out
    assert script.main(["--out", str(out), "--check"]) == 0

    log = ("trainer.log_every=1", "trainer.num_workers=1")
    live = running.train(tmp_path / "live", *REST, *BACKBONE, *log, tiny=False)
    stored = running.train(tmp_path / "stored", *REST, *stand_in(out), *log, tiny=False)
    assert losses(stored) == losses(live)
    config = OmegaConf.load(stored / "config.yaml")
    assert config.backbone == OmegaConf.load(live / "config.yaml").backbone

    moved = tmp_path / "moved"
    out.rename(moved)
    longer = (f"clone={stored}", f"init_from={stored}", f"feature_cache={moved}")
    more = running.train(tmp_path / "more", *longer, "trainer.num_steps=6", tiny=False)
    assert len(losses(more)) == 6
    again = (f"resume={stored}", f"feature_cache={moved}")
    assert losses(running.train(stored, *again, tiny=False)) == losses(live)
    shutil.rmtree(moved)
    scored = running.evaluate(tmp_path, f"checkpoint={stored}", "validate=moving_shapes",
                              "validate.moving_shapes.data.num_videos=1")  # fmt: skip
    assert (scored / "scores.json").is_file()


def test_a_damaged_byte_is_found_and_named(
    tmp_path: Path, features: Path, benchmark: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(features, copy)
    shard = FeatureStore(copy).path(2)
    content = bytearray(shard.read_bytes())
    content[-3] ^= 16
    shard.write_bytes(content)
    assert benchmark("cache_features").main(["--out", str(copy), "--check"]) == 1
    assert shard.name in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    ("dataset", "data", "crops"),
    [("davis2017", ROOT / "tests" / "data", 3), ("folder", ROOT / "tests" / "data" / "clips", 0)],
    ids=["davis", "folder"],
)
def test_real_video(
    tmp_path: Path, benchmark: Callable[[str], ModuleType], dataset: str, data: Path, crops: int
) -> None:
    step = "{_target_: slotreel.data.transforms.Resize, size: ${image_size}}"
    typed = [f"dataset={dataset}", f"paths.data={data}", "losses=ss_contrastive", "image_size=32",
             "slot_dim=16", "decoder.hidden_dim=16", "trainer.num_workers=0"]  # fmt: skip
    typed += ["dataset.source.split=all"] if dataset == "folder" else []
    typed += [] if crops else [f"dataset.transform=[{step}]"]
    out = tmp_path / "cache"
    script = benchmark("cache_features")
    options = ["--crops", str(crops)] if crops else []
    assert script.main(["--out", str(out), *options, *typed, *BACKBONE]) == 0
    store = FeatureStore(out)
    assert store.layout.variants == 2 * max(1, crops)
    run = running.train(
        tmp_path / "run", *typed, *stand_in(out), "trainer.num_steps=3", "trainer.log_every=1",
        "trainer.batch_size=2", "logger=none", "validate=none", "clip_length=2", tiny=False,
    )  # fmt: skip
    assert len(losses(run)) == 3


def test_a_process_that_is_killed_leaves_what_is_whole(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom tests.feature_cache.conftest import filling\n"
        "filling(Path(sys.argv[1]), 'dataset.source.num_videos=400').write()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], env=running.environment(), cwd=ROOT
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (tmp_path / "00003.safetensors").exists():
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    again = filling(tmp_path, "dataset.source.num_videos=400")
    assert 0 < len(again.todo) <= again.layout.num_shards - 4
    store = again.write()
    assert all(store.whole(shard) for shard in range(store.layout.num_shards))
