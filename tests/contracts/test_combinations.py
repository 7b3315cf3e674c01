"""Every combination runs or is refused with what to type instead, which then runs."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch

from scripts import combinations
from slotreel.build import build_run
from slotreel.combinations import refusals
from slotreel.combinations.covering import Covering, Row, held, read
from slotreel.combinations.factors import FIXED, SMALL, Factor, arguments, factors
from slotreel.combinations.options import Options, refusal
from slotreel.runtime.distributed import World
from slotreel.training.loop import fit
from tests import running

OPTIONS = Options(running.CONF)
LINES = combinations.ROWS.read_text().splitlines()
ROWS = [line for line in LINES if not line.startswith("refused: ")]
ANEW = "type python scripts/combinations.py --rows"


@pytest.fixture(scope="module")
def found() -> list[Factor]:
    return factors(OPTIONS)


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("no; type a=1", [("a=1",)]),
        (
            "x=3 is no; type a=1 b.c=[2,3], or losses=[d,e]",
            [("a=1", "b.c=[2,3]"), ("losses=[d,e]",)],
        ),
        ("No. Type backbone=patches (or another), or drop x", [("backbone=patches",)]),
        ("a=1 is no", []),
    ],
)
def test_what_a_message_says_to_type(message: str, typed: list[tuple[str, ...]]) -> None:
    assert refusals.alternatives(message) == typed


def test_what_is_typed_later_replaces_what_stood_there() -> None:
    assert refusals.retyped(("a=1", "b=2"), ("b=3", "c=4")) == ("a=1", "b=3", "c=4")


@pytest.mark.parametrize(
    "typed",
    [
        ("losses=videosaur", "backbone=tiny_vit", "losses.feature_similarity.threshold=0.1"),
        ("losses=[ss_contrastive,pixel_rec]", "grouper=cross_attention", "image_size=[32,64]"),
        ("backbone=dinov2_vits14_reg", "decoder=none", "model.ema=0.9"),
    ],
)
def test_options_are_composed_as_hydra_does(typed: tuple[str, ...]) -> None:
    ours, theirs = OPTIONS.compose(typed), running.composed("train", *typed)
    assert {key: ours[key] for key in ours} == {key: theirs[key] for key in ours}


def test_one_slot_in_two_groups_is_told_what_fits() -> None:
    point = ("initializer=gaussian", "initializer.groups=[1,2]", "num_slots=1")
    (alternative,) = refusals.alternatives(refusal(OPTIONS, point) or "")
    assert refusals.follow(OPTIONS, point, alternative)


def test_a_decoder_that_is_not_there_has_no_masks() -> None:
    point = ("losses=slot_contrast", "model.masks=decoder")
    assert refusals.alternatives(refusal(OPTIONS, point) or "") == [("model.masks=grouper",)]


def test_choices_to_blame_are_as_few_as_possible() -> None:
    losses = ("colour_rec", "pixel_rec", "slot_contrast", "[colour_rec,pixel_rec]")
    points = itertools.product(("mlp", "none", "spatial_broadcast"), losses)
    typed = [(f"decoder={d}", f"losses={terms}") for d, terms in points]
    blamed = refusals.blame(OPTIONS, refusals.judge(OPTIONS, typed))
    assert {item.choices: item.alternatives for item in blamed} == {
        frozenset(choices): (("decoder=mlp",),)
        for choices in (
            ("decoder=none", "losses=[colour_rec]"),
            ("decoder=none", "losses=[pixel_rec]"),
            ("decoder=spatial_broadcast", "losses=[colour_rec]", "losses=[pixel_rec]"),
        )
    }


def test_every_pair_of_values_is_trained_or_refused(found: list[Factor]) -> None:
    try:
        refused, rows = read(combinations.ROWS.read_text(), OPTIONS, found)
    except KeyError as error:
        raise AssertionError(f"{error} is no option now; {ANEW}") from error
    covering = Covering(OPTIONS, found, refused)
    for row in rows:
        assert set(row) == {f for f in found if covering.active(f, row)}, ANEW
    uncovered = set(covering.pairs()).difference(*map(held, rows))
    assert len(uncovered) < len(covering.pairs()) / 2
    for pair in uncovered:
        assert covering.complete(pair) is None, f"{_shown(dict(pair))} is not trained; {ANEW}"


@pytest.mark.slow
def test_what_is_kept_out_of_the_rows_is_refused(found: list[Factor]) -> None:
    """Whatever stands beside it that is not itself refused, here other choices by chance."""
    refused, _ = read(combinations.ROWS.read_text(), OPTIONS, found)
    draw, checked = random.Random(0), 0
    for values in refused:
        covering = Covering(OPTIONS, found, [other for other in refused if not other <= values])
        taken = {factor.key for factor, _ in values}
        for _ in range(4):
            more = draw.sample([f for f in found if f.owner is None and f.key not in taken], 3)
            chosen = values | {(factor, draw.choice(factor.values)) for factor in more}
            row = covering.complete(chosen)
            if row is not None:
                assert refusal(OPTIONS, arguments(row)), _shown(row)
                checked += 1
    assert checked > 2 * len(refused)


def _shown(row: Row) -> str:
    return " ".join(f"{factor.key}={value}" for factor, value in row.items())


@pytest.mark.slow
@pytest.mark.parametrize("line", ROWS, ids=range(len(ROWS)))
def test_two_steps(line: str, tmp_path: Path) -> None:
    """Finite loss and gradients (the loop checks both), and no trainable parameter without one."""
    words = line.split()
    small = [more for word in words for more in SMALL.get(word, ())]
    cfg = running.composed(
        "train", *words, *small, *FIXED, *QUIET, f"paths.runs={tmp_path}", directory=tmp_path
    )
    run = build_run(cfg, World(), torch.device("cpu"), tmp_path, list)
    without = {name for name, p in run.objective.named_parameters() if p.requires_grad}
    for name, parameter in run.objective.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: without.discard(name))
    assert fit(run) == 0
    run.logger.close()
    assert without == set()
    rows = running.metrics(tmp_path)
    assert {"train/loss", "train/lr/all"} <= rows[2].keys()


QUIET = (
    "trainer.num_steps=2",
    "trainer.log_every=1",
    "trainer.num_workers=0",
    "trainer.health_videos=0",
    "trainer.trivial_rows=false",
    "logger=none",
    "dataset.source.num_videos=2",
    "dataset.validation.moving_shapes.data.num_videos=1",
)


@pytest.fixture(scope="module")
def judged() -> dict[str, refusals.Judged]:
    points = refusals.products(OPTIONS)
    return {name: refusals.judge(OPTIONS, found) for name, found in points.items()}


@pytest.mark.slow
def test_every_refusal_says_what_to_type_and_that_runs(judged: dict[str, refusals.Judged]) -> None:
    told = {reason: p for points in judged.values() for p, reason in points.items() if reason}
    assert len(told) > 10
    for reason, point in told.items():
        said = refusals.alternatives(reason)
        assert said, f"{reason}: says nothing to type"
        for alternative in said:
            assert refusals.follow(OPTIONS, point, alternative), (point, alternative)


@pytest.mark.slow
def test_the_page_is_up_to_date(judged: dict[str, refusals.Judged]) -> None:
    assert combinations.PAGE.read_text() == combinations.page(OPTIONS, judged), (
        "type python scripts/combinations.py --markdown"
    )
