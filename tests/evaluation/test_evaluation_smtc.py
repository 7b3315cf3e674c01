"""An imported SMTC checkpoint under every protocol it was published with, and the official ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slotreel.importing.convert import import_checkpoint
from tests import running
from tests.importing.test_smtc import published

PROTOCOLS = {
    "davis2017_unsupervised": "jf",
    "davis2017_unsupervised_linked": "jf",
    "davis2017_unsupervised_smtc": "jf_per_frame_matching",
    "davis2017_propagation_smtc": "jf",
    "davis2017_propagation_smtc_stride8": "jf",
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published layout for frames of 4 x 4 patches, random weights."""
    folder = tmp_path_factory.mktemp("smtc")
    file = published(folder / "smtc.pth", M=16)
    import_checkpoint(file, "smtc", "ytvos_efficient", folder / "run", overrides=["image_size=64"])
    return folder / "run"


@pytest.mark.slow
def test_every_protocol_scores_it_beside_the_plain_backbone(
    imported: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = "validate.davis2017_unsupervised_smtc.protocol.image_size=[64,96]"
    output = running.evaluate(
        tmp_path, f"checkpoint={imported}", f"validate=[{','.join(PROTOCOLS)}]", size,
        f"paths.data={small}", "trivial_rows=true", "before_training=random",
    )  # fmt: skip
    sets = json.loads((output / "scores.json").read_text())["sets"]
    for name, metric in PROTOCOLS.items():
        rows = {row["label"]: row["means"] for row in sets[name][name]["rows"]}
        assert 0 <= rows["checkpoint"][metric] <= 1
        assert ("its backbone before training" in rows) == ("propagation" in name)
    printed = capsys.readouterr().out
    assert "Tracks(slot_weight=0.1, mask_weight=1.0, max_tracks=20)" in printed
    assert "5 rounds of the grouper" in printed
