"""The commands on an imported run: score it, draw it, train it further."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slotreel import evaluation, predicting
from slotreel.importing.convert import import_checkpoint
from slotreel.training import checkpoint
from tests import running
from tests.importing import published_layout as layout

DOG = running.ROOT / "tests" / "data" / "clips" / "dog.mp4"
TINY = ["+backbone.model_args.depth=1", "image_size=56"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SlotContrast on MOVi-C with a ViT of one block on frames of 4 x 4 patches."""
    folder = tmp_path_factory.mktemp("imported")
    kind = layout.KINDS["slotcontrast", "movi_c"]._replace(depth=1, P=16)
    torch.save(layout.lightning(layout.random_state(layout.shapes(kind))), folder / "movi_c.ckpt")
    file, out = folder / "movi_c.ckpt", folder / "run"
    import_checkpoint(file, "slotcontrast", "movi_c", out, full=True, overrides=TINY)
    return out


def test_score(imported: Path, tmp_path: Path) -> None:
    typed = [f"checkpoint={imported}", f"output={tmp_path}", "validate=moving_shapes"]
    typed += ["validate.moving_shapes.data.num_videos=1", "logger=none", "trivial_rows=false"]
    evaluation.eval(running.composed("eval", *typed, "health_videos=0"))
    assert json.loads((tmp_path / "scores.json").read_text())["step"] == 100000


def test_predict(imported: Path, tmp_path: Path) -> None:
    typed = [f"checkpoint={imported}", f"input={DOG}", f"output={tmp_path}"]
    predicting.predict(running.composed("predict", *typed))
    assert len(list((tmp_path / "dog" / "masks").glob("*.png"))) == 12


def test_fine_tune(imported: Path, tmp_path: Path) -> None:
    typed = [f"clone={imported}", f"init_from={imported}", "dataset=moving_shapes"]
    typed += ["dataset.source.num_videos=4", "validate=none", "logger=none", "dataset.augment=[]"]
    typed += ["trainer.num_steps=1", "trainer.batch_size=2", "trainer.num_workers=0"]
    run = running.train(tmp_path / "run", *typed, tiny=False)
    before = checkpoint.find(imported)[1]["objective"]
    after = checkpoint.find(run)[1]["objective"]
    assert before.keys() == after.keys()
    name = "model.backbone.vit.blocks.0.attn.qkv.weight"
    assert torch.equal(before[name], after[name])
    assert all(torch.allclose(before[name], after[name], atol=1e-2) for name in before)


def test_resuming_an_import_says_what_to_type(
    imported: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        running.train(imported, f"resume={imported}", "logger=none", tiny=False)
    assert f"./train.py clone={imported} init_from={imported}" in caplog.text
