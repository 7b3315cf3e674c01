from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from scripts import doctor
from slotreel import doctor as checks

DATA = Path(__file__).parent / "data"


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_the_default_run_lacks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    out = lines(capsys)
    assert "16000 videos" in out
    assert "nothing is missing" in out
    assert f"torch                     {importlib.metadata.version('torch')}" in out


def test_what_is_missing_is_named_with_its_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"paths.data={tmp_path / 'my data (1)'}"
    assert doctor.main(["dataset=davis2016", data, "backbone=tiny_vit"]) == 1
    out = lines(capsys)
    assert "scripts/prepare.py davis2016" in out
    assert out.endswith("missing: training data, validation davis2016\n")
    assert doctor.main(["dataset=davis2016", f"paths.data={DATA}", "backbone=tiny_vit"]) == 0
    assert "1 videos, first surf 213 x 120, masks" in lines(capsys)


def test_an_unknown_option_is_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["dataset=davis"]) == 1
    assert "did you mean" in capsys.readouterr().err


def test_a_missing_package_and_a_full_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PACKAGES", ("no-such-package",))
    states = {check.name: check for check in checks.machine()}
    assert states["no-such-package"].state == "missing"
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(checks, "NEEDED_GB", 10**9)
    assert checks._runs(tmp_path / "runs").state == "missing"
    assert "Not a directory" in checks._runs(blocked / "runs").found
