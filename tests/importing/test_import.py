"""Published checkpoints become slotreel runs: every key, in its shape, or a refusal by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from slotreel.errors import CheckpointError, ConfigError
from slotreel.importing.convert import PRESETS, import_checkpoint
from slotreel.training import checkpoint
from tests.importing import published_layout as layout

MOVI_C = layout.KINDS["slotcontrast", "movi_c"]
QUICK = {("slotcontrast", "movi_c"), ("dinosaur", "coco")}


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    """Write a file in the published layout and give its path."""

    def write(kind: layout.Kind = MOVI_C, drop: str = "", **changes: Any) -> Path:
        state = layout.hollow_state(layout.shapes(kind)) | changes.pop("state", {})
        state.pop(drop, None)
        path = tmp_path / "published.ckpt"
        torch.save(layout.lightning(state, **changes), path)
        return path

    return write


def refused(path: Path, source: str = "slotcontrast", preset: str = "movi_c") -> str:
    """What the import says; it must leave nothing behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, source, preset, path.parent / "out")
    assert sorted(path.parent.iterdir()) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "preset"),
    [
        pytest.param(*kind, marks=[] if kind in QUICK else pytest.mark.slow)  # large networks
        for kind in sorted(layout.KINDS)
    ],
)
def test_every_published_key_has_a_place(
    source: str, preset: str, published: Callable[..., Path], tmp_path: Path
) -> None:
    kind = layout.KINDS[source, preset]
    theirs = layout.shapes(kind)
    done = import_checkpoint(published(kind), source, preset, tmp_path / "out", full=True)
    path, content = checkpoint.find(tmp_path / "out")
    ours = content["objective"]
    assert path.name == "step_000100000.pt"
    assert done.num_tensors == len(ours) == len(theirs)
    sizes = [math.prod(shape) for shape in theirs.values()]
    assert sum(value.numel() for value in ours.values()) == sum(sizes)
    trained = sum(v.numel() for k, v in ours.items() if not k.startswith("model.backbone."))
    assert trained == layout.TRAINED.get((source, preset), trained)
    assert content["imported"]["source"] == source
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert config == yaml.safe_load(content["config"])
    assert config["name"] == f"{source}_{preset}"


def test_the_spec_knows_217_tensors_and_all_presets() -> None:
    known = {(source, preset) for source, presets in PRESETS.items() for preset in presets}
    assert {one for one in known if one[0] != "smtc"} == layout.KINDS.keys()
    for preset in PRESETS["slotcontrast"]:
        assert len(layout.shapes(layout.KINDS["slotcontrast", preset])) == 217


def test_the_backbone_is_named_instead_of_stored(
    published: Callable[..., Path], tmp_path: Path
) -> None:
    import_checkpoint(published(), "slotcontrast", "movi_c", tmp_path / "out")
    _, content = checkpoint.find(tmp_path / "out")
    reference = content["frozen"]["model.backbone"]
    assert reference["origin"] == "timm:vit_small_patch14_dinov2.lvd142m"
    assert len(reference["sha256"]) == 64
    stored = content["objective"]
    assert sum(value.numel() for value in stored.values()) == 3_064_321
    assert len(stored) == 45


# --- refusals --------------------------------------------------------------------------------


def test_a_left_over_key_is_named(published: Callable[..., Path]) -> None:
    extra = {"target_encoder.module.backbone.model.cls_token": torch.zeros(1)}
    said = refused(published(state=extra))
    assert "left over: target_encoder.backbone.model.cls_token" in said
    assert "missing" not in said


def test_a_missing_key_is_named(published: Callable[..., Path]) -> None:
    assert "missing: initializer.slots" in refused(published(drop="initializer.slots"))


def test_another_shape_is_named(published: Callable[..., Path]) -> None:
    said = refused(published(state={"initializer.slots": torch.zeros(1, 9, 64)}))
    assert "initializer.slots (1, 9, 64) instead of (1, 11, 64)" in said
    assert "it fits" not in said


def test_the_preset_that_fits_is_named(published: Callable[..., Path]) -> None:
    said = refused(published(), "slotcontrast", "movi_e")
    assert "encoder.backbone.model.cls_token (1, 1, 384) instead of (1, 1, 768)" in said
    assert "it fits --source slotcontrast --preset movi_c" in said


def test_a_file_that_needs_more_than_paths_is_refused(published: Callable[..., Path]) -> None:
    assert "needs fractions.Fraction" in refused(published(hyper_parameters=fraction()))


def fraction() -> Any:
    from fractions import Fraction

    return Fraction(1, 3)


def test_a_file_cut_short(published: Callable[..., Path]) -> None:
    path = published()
    path.write_bytes(path.read_bytes()[:20_000])
    assert "cut short" in refused(path)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "found none" in refused(tmp_path / "none.ckpt")


@pytest.mark.parametrize("content", [{"weights": torch.zeros(1)}, [1], {"state_dict": {"a": 1}}])
def test_another_layout(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    assert "expected a dictionary with state_dict" in refused(tmp_path / "other.ckpt")


def test_our_own_checkpoint(tmp_path: Path) -> None:
    checkpoint.save_atomic(tmp_path / "ours.pt", {"objective": {}})
    assert "is a slotreel checkpoint already" in refused(tmp_path / "ours.pt")


def test_what_is_there_stays(published: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        import_checkpoint(published(), "slotcontrast", "movi_c", tmp_path / "out")


@pytest.mark.parametrize(("source", "preset"), [("savi", "movi_c"), ("slotcontrast", "movi_b")])
def test_an_unknown_name(source: str, preset: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no option"):
        import_checkpoint(tmp_path / "a.ckpt", source, preset, tmp_path / "out")


def test_other_settings_can_be_typed(published: Callable[..., Path], tmp_path: Path) -> None:
    path = published(MOVI_C._replace(K=5, depth=1))
    typed = ["num_slots=5", "+backbone.model_args.depth=1"]
    import_checkpoint(path, "slotcontrast", "movi_c", tmp_path / "out", overrides=typed)
    _, content = checkpoint.find(tmp_path / "out")
    assert content["objective"]["model.initializer.slots"].shape == (1, 5, 64)
