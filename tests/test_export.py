"""One folder to give away: what is in it, and that it is the model it was made from."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import slotreel
from scripts import export
from slotreel.evaluation import eval
from slotreel.predicting import predict
from slotreel.training import checkpoint
from tests import running

CLIP = running.ROOT / "tests" / "data" / "clips" / "dog.mp4"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    typed = ("backbone=tiny_vit", "losses=ss_contrastive", "trainer.num_steps=2", "seed=3")
    return running.train(tmp_path_factory.mktemp("export") / "run", *typed, "trainer.eval_every=0")


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("given") / "my_model"
    assert export.main([str(run), str(out), "--licence", "cc-by-4.0"]) == 0
    return out


def test_what_is_in_the_folder(run: Path, folder: Path) -> None:
    names = ["README.md", "SHA256SUMS", "config.yaml", "scores.json", "scores.md"]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "weights.safetensors"]
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    stored = checkpoint.find(run)[1]["objective"]
    tensors = load_file(folder / "weights.safetensors")
    assert tensors.keys() == stored.keys()
    assert all(torch.equal(tensors[name], stored[name]) for name in stored)
    assert not any(name.startswith("model.backbone.") for name in tensors)
    scores, own = (json.loads((d / "scores.json").read_text()) for d in (folder, run))
    assert scores["sets"] == own["sets"]
    assert str(run) not in (folder / "scores.json").read_text()


def test_the_card_says_what_it_is(run: Path, folder: Path) -> None:
    text = (folder / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "cc-by-4.0"
    assert 'slotreel.load("my_model")' in body
    assert (run / "scores.md").read_text().strip() in body
    for row in ("| steps | 2 |", "| seed | 3 |", "| data | `MovingShapes` |", "package:tiny_vit"):
        assert row in body


def test_the_folder_is_the_model(run: Path, folder: Path, tmp_path: Path) -> None:
    video = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    outs = [slotreel.load(place, device="cpu")(video) for place in (run, folder)]
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))
    written = []
    for place in (run, folder):
        output = tmp_path / place.name
        typed = [f"checkpoint={place}", f"input={CLIP}", f"output={output}", "device=cpu"]
        predict(running.composed("predict", *typed, "view=[]"))
        masks = sorted((output / "dog" / "masks").iterdir())
        written.append([path.read_bytes() for path in masks])
    assert len(written[0]) == 12
    assert written[0] == written[1]


def test_the_folder_is_scored_like_the_run(folder: Path, tmp_path: Path) -> None:
    typed = [f"checkpoint={folder}", f"output={tmp_path}", "device=cpu", "logger=none"]
    eval(running.composed("eval", *typed, "trivial_rows=false"))
    (given, scored) = (
        json.loads((place / "scores.json").read_text())["sets"]["moving_shapes"]["discovery"]
        for place in (folder, tmp_path)
    )
    assert given["rows"][-1]["videos"] == scored["rows"][-1]["videos"]


def test_full_holds_everything_and_an_export_is_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    assert export.main([str(folder), str(full), "--full"]) == 0
    content = checkpoint.find(full)[1]
    assert content["frozen"] == {}
    assert any(name.startswith("model.backbone.") for name in content["objective"])
    body = (full / "README.md").read_text()
    assert "| licence | not stated |" in body
    assert "sha256" not in body
    new, old = (slotreel.load(place, device="cpu").objective for place in (full, folder))
    for name, value in old.state_dict().items():
        assert torch.equal(value, new.state_dict()[name]), name


def test_scores_of_another_step_are_left_behind(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "run" / "checkpoints" / "step_000000001.pt"
    checkpoint.save_atomic(other, {**checkpoint.find(run)[1], "step": 1})
    for name in ("scores.json", "scores.md"):
        (tmp_path / "run" / name).write_bytes((run / name).read_bytes())
    assert export.main([str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "scores.json").exists()
    assert "None of this step" in (tmp_path / "out" / "README.md").read_text()


def test_refusals_say_what_to_do(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()
    )
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "weights.safetensors").write_bytes(b"0" * 40)
    for typed, words in (
        ([run, tmp_path / "mine"], "holds something else"),
        ([folder, folder], "where the weights come from"),
        ([tmp_path / "lone", tmp_path / "a"], "beside weights.safetensors"),
        ([tmp_path / "torn", tmp_path / "a"], "cannot be read"),
        ([running.ROOT / "src/slotreel/weights/tiny_vit.safetensors", tmp_path / "a"], "export.py"),
    ):
        assert export.main([str(word) for word in typed]) == 1
        assert words in capsys.readouterr().err


def test_push_uploads_these_files_and_explains_a_refusal(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    calls: list[dict[str, Any]] = []

    class Hub:
        def create_repo(self, repository: str, **_: Any) -> None:
            if repository == "taken/name":
                raise PermissionError("403")

        def upload_folder(self, **asked: Any) -> None:
            calls.append(asked)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    out = tmp_path / "out"
    assert export.main([str(run), str(out), "--push", "me/mine"]) == 0
    assert "https://huggingface.co/me/mine" in capsys.readouterr().out
    assert (calls[0]["repo_id"], calls[0]["folder_path"]) == ("me/mine", out)
    assert set(calls[0]["allow_patterns"]) == {path.name for path in out.iterdir()}
    assert export.main([str(run), str(out), "--push", "taken/name"]) == 1
    assert "hf auth login" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert export.main([str(run), str(out), "--push", "me/mine"]) == 1
    assert "pip install huggingface_hub" in capsys.readouterr().err
