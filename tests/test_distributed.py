"""Several processes equal one at the same global batch, however it is divided."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotreel.noise import Noise
from slotreel.training import checkpoint
from tests import running
from tests.gradients import Answer, gradients
from tests.processes import Ranks

CASES: dict[str, tuple[str, ...]] = {
    "default": (),
    "gathered-contrast-and-noise": ("losses=ss_contrastive", "initializer=gaussian"),
    "teacher-and-counted-instances": ("losses=smtc", "grouper=smtc", "model.ema=0.9"),
    "backbone-trained": ("losses=pixel_rec", "backbone=tiny_vit", "backbone.frozen=false"),
    "similarity": ("losses=videosaur", "decoder=slot_mixer", "backbone=tiny_vit"),
    "noise": ("losses=feature_rec", "initializer=gaussian"),
}
PARTS = {f"accumulate-{n}": (*CASES["noise"], f"trainer.accumulate={n}") for n in (2, 4)}
# Where rounding ends: sums over clips come in another order.
LIMITS = {torch.float32: 1e-6, torch.float64: 1e-13}


@pytest.fixture(scope="module", params=LIMITS, ids=str)
def computed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Answer, Answer, float]:
    """The answers of one process, those of two, and how near they must be."""
    directory, dtype = tmp_path_factory.mktemp("gradients"), request.param
    two = {name: options for name, options in PARTS.items() if "4" not in name}
    return (
        gradients(directory, CASES | PARTS, 1, dtype),
        gradients(directory, CASES | two, 2, dtype),
        LIMITS[dtype],
    )


def assert_near(answer: Answer, name: str, reference: Answer, of: str, limit: float) -> None:
    """The whole gradient and that of every parameter, relative to the norm of the whole.

    Some biases shift all logits of a softmax alike: their gradient is rounding, so it cannot be
    compared with itself.
    """
    terms, found = answer[name]
    expected_terms, expected = reference[of]
    assert found.keys() == expected.keys()
    norm = torch.nn.utils.get_total_norm(list(expected.values()))
    assert norm > 0.01
    difference = [found[key] - expected[key] for key in expected]
    assert torch.nn.utils.get_total_norm(difference) < limit * norm
    assert terms == pytest.approx(expected_terms, rel=1e-6)  # logged in float32


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_gradient_of_one(
    computed: tuple[Answer, Answer, float], name: str
) -> None:
    one, two, limit = computed
    assert_near(two, name, one, name, limit)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "name"), [(1, "accumulate-2"), (1, "accumulate-4"), (2, "accumulate-2")]
)
def test_accumulation_has_the_gradient_of_the_whole_batch(
    computed: tuple[Answer, Answer, float], processes: int, name: str
) -> None:
    """With the same draws; losses that relate the clips of a batch are refused (test_cli)."""
    one, two, limit = computed
    assert_near((one, two)[processes - 1], name, one, "noise", limit)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_noise_does_not_depend_on_how_a_batch_is_divided(
    ranks: int, pieces: int, clips: int
) -> None:
    whole = Noise(3, "x").normal("slots", (ranks * pieces * clips, 2), like=torch.zeros(()))
    parts = [
        Noise(3, "x", rank=rank, world_size=ranks).piece(number, pieces)
        .normal("slots", (clips, 2), like=torch.zeros(()))
        for rank in range(ranks)
        for number in range(pieces)
    ]  # fmt: skip
    assert torch.equal(torch.cat(parts), whole)


STEPS = ("trainer.num_steps=4", "trainer.log_every=1", "trainer.save_every=0")


def last(directory: Path) -> dict[str, torch.Tensor]:
    content = checkpoint.find(directory)[1]
    assert content["step"] == 4
    return content["objective"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (*CASES["gathered-contrast-and-noise"], "optim=sgd"),
        ("losses=[feature_rec,token]", "tokenizer=toy", "optim=two_groups"),
        (*CASES["teacher-and-counted-instances"], "optim=sgd"),
        (*CASES["backbone-trained"], "backbone.frozen_until=2", "optim=sgd"),
        (*CASES["noise"], "optim=sgd", "trainer.accumulate=2"),
    ],
    ids=["contrast", "phases", "teacher", "backbone-trained-from-step-2", "accumulate"],
)
def test_two_processes_train_as_one(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Four updates by SGD; Adam divides gradients that are only rounding by their own size."""
    for size, name in ((1, "one"), (2, "two")):
        ranks = Ranks(tmp_path / name, (*STEPS, *options), size)
        assert ranks.wait(240) == [0] * size, ranks.said(0)
    a, b = last(tmp_path / "one"), last(tmp_path / "two")
    for name in a:
        assert (a[name] - b[name]).norm() <= 1e-6 * a[name].norm().clamp_min(1), name
    rows = [running.metrics(tmp_path / name) for name in ("one", "two")]
    for step in range(1, 5):
        assert rows[0][step]["train/loss"] == pytest.approx(rows[1][step]["train/loss"], rel=2e-6)


@pytest.mark.slow
def test_scores_are_exactly_those_of_one_process(tmp_path: Path) -> None:
    """Weights that do not move, three videos on two ranks: every score to the last bit."""
    still = ("optim.groups.all.lr=0", "trainer.num_steps=1", "trainer.save_every=0")
    videos = "dataset.validation.moving_shapes.data.num_videos=3"
    one = running.train(tmp_path / "one", *still, videos)
    script = running.script(tmp_path / "two")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
         "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0",
         str(script), str(tmp_path / "two"), *still, videos],
        capture_output=True, text=True, timeout=300, cwd=running.ROOT,
        env=running.environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    scores = [
        {key: value for key, value in running.metrics(directory)[1].items() if "val/" in key}
        for directory in (one, tmp_path / "two")
    ]
    assert scores[0]["val/moving_shapes/discovery/fg_ari_video"] > 0
    assert scores[0] == scores[1]
    tables = [json.loads((d / "scores.json").read_text())["sets"] for d in (one, tmp_path / "two")]
    assert tables[0] == tables[1]
