"""Real DAVIS frames and a real clip, through training, validation and prediction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slotreel import evaluation, predicting
from slotreel.data.image_io import read_labels
from slotreel.training import checkpoint
from tests import running

DATA = running.ROOT / "tests" / "data"
SMALL = (
    "logger=none", "trainer.num_steps=2", "trainer.batch_size=2", "trainer.log_every=1",
    "trainer.num_workers=0", "trainer.trivial_rows=false", "clip_length=2", "image_size=64",
)  # fmt: skip


@pytest.fixture(scope="module")
def davis_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return running.train(
        tmp_path_factory.mktemp("davis") / "run", "dataset=davis2016", f"paths.data={DATA}",
        "backbone=timm_vit", "backbone.model=vit_tiny_patch16_224", "backbone.weights=random",
        "+backbone.model_args.depth=2", *SMALL, tiny=False,
    )  # fmt: skip


def test_davis_is_scored_with_every_metric(davis_run: Path) -> None:
    scores = json.loads((davis_run / "scores.json").read_text())
    (row,) = scores["sets"]["davis2016"]["davis2016"]["rows"]
    assert {"j_fg", "j_matched", "fg_ari_video", "mbo_video"} <= row["means"].keys()
    assert set(row["videos"]) == set((DATA / "davis/ImageSets/2016/val.txt").read_text().split())


def test_a_clip_becomes_masks_overlay_and_slots(davis_run: Path, tmp_path: Path) -> None:
    clip = next((DATA / "clips").glob("*.mp4"))
    odd = tmp_path / "my video (1).mp4"
    shutil.copy(clip, odd)
    command = [f"checkpoint={davis_run}", f"input={odd}", f"output={tmp_path / 'out'}"]
    predicting.predict(running.composed("predict", *command))
    folder = tmp_path / "out" / "my video (1)"
    assert len(list(folder.glob("masks/*.png"))) == 12
    assert (folder / "overlay.mp4").stat().st_size > 1000
    assert list(folder.glob("slots/*.npz"))


def test_a_trained_model_is_scored_under_other_protocols_and_its_features_propagate(
    davis_run: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(DATA / "davis", data / "davis")
    shutil.copytree(data / "davis/Annotations", data / "davis/Annotations_unsupervised")
    (data / "davis/ImageSets/2017/val.txt").write_text("bmx-trees\ndog\n")
    sets = (
        "validate=[davis2017_unsupervised,davis2017_unsupervised_smtc,davis2017_propagation]",
        "validate.davis2017_unsupervised_smtc.protocol.image_size=[96,160]",
        "validate.davis2017_propagation.protocol.through.short_side=96",
        "validate.davis2017_propagation.protocol.through.multiple=16",
    )  # fmt: skip
    evaluation.eval(
        running.composed(
            "eval", f"checkpoint={davis_run}", f"paths.data={data}", f"output={tmp_path}",
            "logger=none", "trivial_rows=false", *sets,
        )
    )  # fmt: skip
    scores = json.loads((tmp_path / "scores.json").read_text())["sets"]
    means = {name: protocols[name]["rows"][0]["means"] for name, protocols in scores.items()}
    assert 0 < means["davis2017_unsupervised"]["j"] < 1
    assert 0 < means["davis2017_unsupervised_smtc"]["j_per_frame_matching"] < 1
    assert 0.3 < means["davis2017_propagation"]["j"] < 1
    assert {p.parent.name for p in tmp_path.glob("official/*/global_results-val.csv")} == {
        "davis2017_unsupervised", "davis2017_propagation",
    }  # fmt: skip

    first = data / "davis/Annotations/480p/dog/00000.png"
    predicting.predict(
        running.composed(
            "predict", f"checkpoint={davis_run}", "propagation=smtc", f"first_mask={first}",
            f"input={data / 'davis/JPEGImages/480p/dog'}", f"output={tmp_path / 'followed'}",
        )
    )  # fmt: skip
    followed = [read_labels(p) for p in sorted((tmp_path / "followed/dog/masks").glob("*.png"))]
    assert len(followed) == 8
    assert all(0 < labels.mean() < 0.5 for labels in followed)


def test_a_folder_without_masks_trains_and_keeps_the_lowest_loss(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(DATA / "davis" / "JPEGImages" / "480p", videos)
    run = running.train(
        tmp_path / "run", "dataset=folder", f"paths.data={videos}", *SMALL, tiny=False
    )
    best = checkpoint.read(run / "checkpoints" / "best.pt")["best"]
    assert best[0] == pytest.approx(running.metrics(run)[2]["train/loss"])
    assert list((run / "media").glob("*.png"))


def test_a_damaged_frame_stops_with_file_and_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(DATA / "davis" / "JPEGImages" / "480p", videos)
    for frame in videos.rglob("*.jpg"):
        frame.write_bytes(frame.read_bytes()[:200])
    with pytest.raises(SystemExit):
        running.train(
            tmp_path / "run", "dataset=folder", f"paths.data={videos}", *SMALL, tiny=False
        )
    said = capfd.readouterr().err
    assert ".jpg" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("backbone", ["patches", "tiny_vit"])
def test_predict_runs_a_trivial_row_in_place_of_a_checkpoint(tmp_path: Path, backbone: str) -> None:
    clip = next((DATA / "clips").glob("*.mp4"))
    command = ["model=feature_kmeans", f"backbone={backbone}", f"input={clip}"]
    predicting.predict(running.composed("predict", *command, f"output={tmp_path}"))
    assert len(list(tmp_path.rglob("masks/*.png"))) == 12


def test_eval_runs_a_trivial_row_in_place_of_a_checkpoint(tmp_path: Path) -> None:
    command = [
        "model=blocks", "validate=davis2016", f"paths.data={DATA}", "trivial_rows=false",
        f"output={tmp_path}",
    ]  # fmt: skip
    evaluation.eval(running.composed("eval", *command))
    scores = json.loads((tmp_path / "scores.json").read_text())
    (row,) = scores["sets"]["davis2016"]["davis2016"]["rows"]
    assert row["label"] == "fixed blocks"
    assert 0 < row["means"]["j_fg"] < 0.5
