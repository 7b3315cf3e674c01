"""An imported model computes what the published equations give on the published file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from slotreel.importing.convert import import_checkpoint
from slotreel.importing.names import plain
from slotreel.loading import load_checkpoint
from slotreel.noise import Noise
from slotreel.objective import SlotObjective
from tests.importing import published_forward as equations
from tests.importing import published_layout as layout

FRAMES = 3
DEPTH = 2
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
# Frames of 4 x 4 patches, which the position tables are resized to, and a ViT of two blocks.
SMALL = {
    ("slotcontrast", "movi_c"): {"P": 16},
    ("slotcontrast", "movi_e"): {"P": 16},
    ("videosaur", "movi_c"): {"P": 16, "mixer": (2, 4, 16)},
    ("videosaur", "ytvis2021_dinov2"): {"P": 16, "mixer": (3, 3, 768 + 16)},
    ("dinosaur", "coco"): {"P": 16},
}


SLOW = {("slotcontrast", "movi_e"), ("videosaur", "ytvis2021_dinov2")}


@pytest.mark.parametrize(
    ("source", "preset"),
    [pytest.param(*one, marks=[pytest.mark.slow] * (one in SLOW)) for one in sorted(SMALL)],
)
def test_slots_and_masks_are_those_of_the_equations(
    source: str, preset: str, tmp_path: Path
) -> None:
    kind = layout.KINDS[source, preset]._replace(depth=DEPTH, **SMALL[source, preset])
    state = layout.random_state(layout.shapes(kind))
    torch.save(layout.lightning(state), tmp_path / "x.ckpt")
    size = 4 * kind.patch
    typed = [f"image_size={size}", f"+backbone.model_args.depth={DEPTH}"]
    import_checkpoint(
        tmp_path / "x.ckpt", source, preset, tmp_path / "out", full=True, overrides=typed
    )
    model = objective_of(tmp_path / "out").eval().model

    video = torch.rand(FRAMES if kind.video else 1, 3, size, size)
    noise = Noise(7)
    with torch.no_grad():
        ours = model(video[None], {}, noise)
        decoded = model.decode(ours.slots, ours.features.grid)
    start = ours.query[0, 0]
    torch.testing.assert_close(start, starting_slots(state, kind, noise))
    theirs = equations.forward(
        {plain(name): value for name, value in state.items()},
        (video - MEAN) / STD,
        start,
        heads=kind.F // 64,
        first=3,
        later=2 if kind.video else 3,
    )
    prediction = torch.cat(list(decoded.pred.values()), dim=-1)
    close(ours.slots[0], theirs.slots)
    close(ours.masks[0], theirs.attention)
    close(decoded.masks, theirs.masks)
    close(prediction, theirs.prediction)
    assert theirs.masks.std() > 1e-3  # or equal masks would show nothing


def objective_of(directory: Path) -> SlotObjective:
    objective = load_checkpoint(directory).objective
    assert isinstance(objective, SlotObjective)
    return objective


def starting_slots(state: dict[str, Tensor], kind: layout.Kind, noise: Noise) -> Tensor:
    if not kind.random_init:
        return state["initializer.slots"][0]
    mean, log_std = state["initializer.mean"], state["initializer.log_std"]
    drawn = noise.child("frame", 0).normal("initializer", (1, kind.K, kind.D), like=mean)
    return (mean + log_std.exp() * drawn)[0]


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=3e-5, atol=3e-5)
