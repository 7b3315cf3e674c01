"""Training from disk is training; what does not belong together is refused by name."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from slotreel.build import build_parts, build_run
from slotreel.data.loader import to_device
from slotreel.data.sources.moving_shapes import MovingShapes
from slotreel.errors import ConfigError, DataError
from slotreel.feature_cache.encoding import relative_error
from slotreel.feature_cache.live import with_live_backbone
from slotreel.feature_cache.store import FeatureStore
from slotreel.feature_cache.using import check_features
from slotreel.runtime.distributed import World
from slotreel.types import Batch, Progress
from tests.feature_cache.conftest import cached, config, filling

CPU = torch.device("cpu")


def steps(cfg: DictConfig, directory: Path, number: int = 3) -> tuple[list[float], list[Batch]]:
    """Losses of some steps, and what they were computed from."""
    directory.mkdir()
    run = build_run(cfg, World(), CPU, directory, list)
    run.objective.train()
    losses, batches = [], []
    for step, batch in enumerate(itertools.islice(run.batches(0), number)):
        batches.append(run.augment(to_device(batch, CPU), step))
        out = run.objective(batches[-1], Progress(step, number))
        run.optimizer.set_step(step)
        out.total.backward()
        run.optimizer.clip()
        run.optimizer.step()
        run.objective.after_step(Progress(step, number))
        losses.append(float(out.total.detach()))
    return losses, batches


@pytest.mark.parametrize(
    "overrides",
    [
        ("frame_stride=2", "clip_starts=tiled", "trainer.accumulate=1"),
        ("losses=[feature_rec,colour_rec]", "clip_starts=centred"),
    ],
    ids=["features", "pixels"],
)
def test_losses_are_those_of_live_features_bit_for_bit(
    features: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    live, seen = steps(config(*overrides), tmp_path / "live")
    stored, read = steps(cached(features, *overrides), tmp_path / "stored")
    assert stored == live
    assert all(batch.features is not None for batch in read)
    shown = overrides[0] == "losses=[feature_rec,colour_rec]"
    for one, other in zip(seen, read, strict=True):
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.views[0], other.views[0]) == shown


@pytest.mark.slow
def test_a_teacher_and_keys_come_from_disk_too(tmp_path: Path) -> None:
    overrides = ("model.ema=0.9", "grouper=smtc", "losses=smtc")
    store = filling(tmp_path / "keys", *overrides).write()
    assert store.layout.fields.keys() == {"tokens", "keys"}
    live, _ = steps(config(*overrides), tmp_path / "live")
    stored, _ = steps(cached(store.folder, *overrides), tmp_path / "stored")
    assert stored == live


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "least", "most"), [("bf16", 1e-4, 5e-3), ("fp8", 5e-3, 5e-2)])
def test_smaller_types_are_near(
    features: Path, tmp_path: Path, dtype: str, least: float, most: float
) -> None:
    store = filling(tmp_path, dtype=dtype).write()
    exact = FeatureStore(features)
    for variant in (0, 1):
        error = relative_error(store.read(1, range(6), variant), exact.read(1, range(6), variant))
        assert least < error < most
    losses, _ = steps(cached(tmp_path), tmp_path / "run", 1)
    live, _ = steps(config(), tmp_path / "live", 1)
    assert losses == pytest.approx(live, rel=most)


def test_the_configuration_names_the_network_itself(features: Path, tmp_path: Path) -> None:
    cfg = with_live_backbone(cached(features))
    assert cfg.backbone == config().backbone
    assert cfg.feature_cache == str(features)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("image_size=64", r"image_size: 32 there, 64 here.*type image_size=32"),
        ("dataset.source.num_videos=5", r"dataset\.source\.num_videos=4"),
        ("dataset.source.seed=3", r"dataset\.source\.seed: .*dataset\.source\.seed=0"),
        ("dataset.transform=[{_target_: slotreel.data.transforms.CenterCrop, size: 32}]",
         r"dataset\.transform: \[\] there, .*CenterCrop"),
        ("dataset.augment=[{_target_: slotreel.data.augment.Resize, size: 32}]",
         r"dataset\.augment: \[\] there, .*Resize"),
        ("losses=[feature_rec,feature_similarity]", "this run needs keys beside tokens"),
        ("+backbone.depth=2", r"backbone\.depth=2, but the features .* were made with 1"),
    ],
)  # fmt: skip
def test_a_foreign_cache_is_refused_by_name(features: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){words}") as refused:
        build_parts(
            cached(features, override),
            World(),
            CPU,
        )
    assert "cache_features.py" in str(refused.value)


def test_other_weights_are_refused_by_name(features: Path) -> None:
    cfg = cached(features, "seed=1")  # random weights of another seed
    parts = build_parts(cfg, World(), CPU)
    with pytest.raises(ConfigError, match=r"weights: [0-9a-f]+ there, [0-9a-f]+ here"):
        check_features(with_live_backbone(cfg), parts.objective, CPU)


def test_data_that_changed_unseen_are_noticed(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = with_live_backbone(cached(features))
    objective = build_parts(cfg, World(), CPU).objective
    check_features(cfg, objective, CPU)
    read = MovingShapes.read

    def darker(self, index, frames):  # type: ignore[no-untyped-def]
        clip = read(self, index, frames)
        return clip._replace(video=clip.video // 2)

    monkeypatch.setattr(MovingShapes, "read", darker)
    with pytest.raises(ConfigError, match="the data, the code or a library changed"):
        check_features(cfg, objective, CPU)


def test_a_trained_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backbone\.frozen=true"):
        filling(tmp_path, "backbone.frozen=false", "losses=pixel_rec")


def test_flips_need_not_be_used(features: Path) -> None:
    parts = build_parts(cached(features, "dataset.augment=[]"), World(), CPU)
    assert len(parts.clips) == 4


def test_a_cache_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    store = filling(tmp_path).write()
    store.path(1).unlink()
    with pytest.raises(DataError, match=r"1 of 8 shards .* it goes on"):
        build_parts(cached(tmp_path), World(), CPU)
