"""The command line as a user types it: help, typos, refusals, paths with odd characters."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from slotreel.assemble import build_objective
from slotreel.build import build_settings
from slotreel.cli import check_groups, prepare, quote_path
from slotreel.errors import ConfigError
from slotreel.runtime.distributed import World
from tests import running

ROOT = running.ROOT


def run(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / command), *arguments],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("command", ["train.py", "eval.py", "predict.py"])
def test_help_answers_before_torch_is_imported(command: str) -> None:
    probe = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(ROOT / command)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip().endswith("False"), done.stderr
    assert "grouper" in done.stdout or command != "train.py"


def test_cfg_job_prints_the_configuration() -> None:
    done = run("train.py", "--cfg", "job", "num_slots=9")
    assert done.returncode == 0
    assert "num_slots: 9" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grouper=slot_atention"], "grouper has no option slot_atention; did you mean: slot_att"),
        (["gruper=slot_attention"], "there is no key gruper; did you mean: grouper"),
        (["trainer.num_stesp=3"], "no key trainer.num_stesp; did you mean: trainer.num_steps"),
        (["+grupper=x"], "+grupper=x: there is no group grupper; did you mean: grouper"),
        (["losses=[feature_rec,pixelrec]"], "losses has no option pixelrec; did you mean: pixel"),
    ],
    ids=["option", "group", "key", "plus", "loss"],
)
def test_a_typo_gets_the_nearest_names(arguments: list[str], message: str) -> None:
    done = run("train.py", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("+slurm=slurm", "there is no group slurm; "),
        ("+foo=bar", "there is no group foo; "),
        ("++foo=bar", "there is no group foo; "),
        ("+foo.x=3", "there is no key foo; "),
        ("+grouperr.x=3", "there is no key grouperr; did you mean: grouper"),
        ("+trainer/foo=1", "there is no group trainer/foo; "),
        ("+trainer.num_step=1", "no key trainer.num_step; did you mean: trainer.num_steps"),
    ],
)
def test_what_nothing_reads_cannot_be_added(argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_groups([argument], running.CONF)
    assert f"{argument}: there is no" in str(error.value)
    assert message in str(error.value)


def test_what_is_read_can_be_added() -> None:
    added = ["+backbone.model_args.depth=2", "++seed=3", "++trainer.num_steps=5",
             "+losses.slot_contrast.weight=3", "+hydra/env=x", "+optim.groups.slow={}"]  # fmt: skip
    check_groups(added, running.CONF)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["backbone=small_cnn", "losses=feature_rec"], "losses=[pixel_rec"),
        (["decoder=none"], "decoder=mlp"),
        (["clip_length=1"], "clip_length=2"),
        (["trainer.accumulate=2"], "trainer.accumulate=1"),
        (["decoder=spatial_broadcast", "losses=[pixel_rec,feature_rec]"], "decoder=mlp"),
        (["losses=pixel_rec", "+losses.slot_contrast.weight=3"], "not selected"),
        (["projector=identity"], "slot_dim="),
    ],
)
def test_impossible_combinations_are_refused_with_a_way_out(typed: list[str], answer: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_objective(running.composed("train", *typed))
    assert answer in str(error.value)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    cfg = running.composed("train", "trainer.batch_size=32")
    with pytest.raises(ConfigError, match=r"trainer\.batch_size=33"):
        build_settings(cfg, World(0, 3, 0))


def test_a_trivial_row_cannot_be_trained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        running.train(tmp_path / "run", "model=blocks")
    assert stop.value.code == 1
    assert "nothing to train" in capfd.readouterr().err


def test_missing_data_names_the_command_that_prepares_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        running.train(
            tmp_path / "run", "dataset=davis2016", f"paths.data={tmp_path}", "logger=none",
            tiny=False,
        )  # fmt: skip
    assert "scripts/prepare.py davis2016 --root" in capfd.readouterr().err


@pytest.mark.parametrize(
    "argument",
    ["checkpoint=runs/epoch=3-step=100.ckpt", "input=my video (1).mp4", "paths.data=/a b/{c}",
     "input=it's.mp4"],
)  # fmt: skip
def test_paths_survive_hydra(argument: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([quote_path(argument)])
    assert override.value() == argument.partition("=")[2]


def test_other_values_are_left_alone() -> None:
    for argument in ("seed=0,1,2", "grouper=slot_attention", "losses=[a,b]", "--multirun"):
        assert quote_path(argument) == argument


def test_resume_runs_in_its_own_directory(tmp_path: Path) -> None:
    assert prepare([f"resume={tmp_path}"])[1] == f"hydra.run.dir='{tmp_path}'"


@pytest.mark.parametrize("program", ["train", "eval", "predict"])
def test_every_command_of_the_documentation_composes(program: str) -> None:
    """Each ``./train.py …`` in the documentation is a configuration that exists."""
    lines = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        joined = page.read_text().replace("\\\n", " ")
        lines += [line.strip() for line in joined.splitlines()]
    commands = [c for line in lines for c in line.split("`") if c.startswith(f"./{program}.py ")]
    assert len(commands) > 2
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        words = [w for w in words if w not in ("…", "...", "group=option")]
        if "--config-dir" in words or any(
            w.startswith(("resume=", "--help", "--cfg")) for w in words
        ):
            continue
        options = [w.split(",")[0] if "[" not in w else w for w in words if not w.startswith("-")]
        running.composed(program, *options)
