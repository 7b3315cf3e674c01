"""Killed at random instants, a run ends bit for bit as an undisturbed one."""

from __future__ import annotations

import functools
import itertools
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from slotreel.training import checkpoint, loop
from tests.processes import Ranks, context
from tests.test_loop import assert_same

SAVE_EVERY = 7
# Ten clips in batches of four: steps end in the middle of an epoch, and so do checkpoints.
RUN = (
    f"trainer.save_every={SAVE_EVERY}",
    "trainer.eval_every=10",
    "trainer.log_every=5",
    "dataset.source.num_videos=10",
    "dataset.validation.moving_shapes.data.num_videos=3",
    "initializer=gaussian",
)
NUMBERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
PHASES = ("starting", "a step", "a save", "an evaluation")
LASTS_S = {"starting": 0.9, "a step": 0.03, "a save": 0.005, "an evaluation": 0.1}  # about
TOO_LONG_S = 240  # for a run of seconds, on a machine with much else to do


class Kill(NamedTuple):
    """One planned kill: after ``steps`` more steps (0 = while starting), within ``phase``."""

    number: signal.Signals
    rank: int
    phase: str
    steps: int
    delay_s: float


def plan(seed: int, kills: int, ranks: int) -> list[Kill]:
    """Random kills; every signal meets every phase if there are enough of them."""
    draw = random.Random(seed)
    pairs = list(itertools.product(NUMBERS, PHASES[1:]))
    draw.shuffle(pairs)
    chosen = [*pairs, *((number, "starting") for number in NUMBERS)]
    chosen += [(draw.choice(NUMBERS), draw.choice(PHASES)) for _ in range(kills)]
    return [
        Kill(
            number,
            draw.randrange(ranks),
            phase,
            draw.randrange(1, 9),
            LASTS_S[phase] * draw.random(),
        )
        for number, phase in chosen[:kills]
    ]


class Board:
    """What a run is doing, seen from outside: phase, step, first step, saves and evaluations."""

    def __init__(self) -> None:
        self.cells = context().RawArray("i", 3)

    def clear(self) -> None:
        self.cells[:] = [0, 0, -1]

    def phase(self) -> str:
        return PHASES[self.cells[0]]

    def wait_for(self, kill: Kill, alive: Callable[[], bool]) -> None:
        """Return at the planned instant."""
        if kill.phase == "starting":
            time.sleep(kill.delay_s)
            return
        while alive():
            _, step, first = self.cells[:]
            # Saves and evaluations do not come after every step: the first one counts.
            enough = kill.steps if kill.phase == "a step" else 1
            if first >= 0 and step >= first + enough and self.phase() == kill.phase:
                time.sleep(kill.delay_s)
                return
            time.sleep(0.0005)


def watch(cells: Any, clips: Path) -> None:
    """In the run: write its phase on the board and the clips of every step into a file."""
    board: Any = cells

    @contextmanager
    def during(phase: int, run: Any) -> Iterator[None]:
        before, board[0], board[1] = board[0], phase, run.state.step
        if board[2] < 0:
            board[2] = run.state.step
        yield
        board[0], board[1] = before, run.state.step

    def marked(name: str, phase: int) -> None:
        original = getattr(loop, name)

        def call(run: Any, *rest: Any) -> Any:
            if run.world.rank:
                return original(run, *rest)
            with during(phase, run):
                return original(run, *rest)

        setattr(loop, name, call)

    for name, phase in (("_train_step", 1), ("_save", 2), ("_validate", 3)):
        marked(name, phase)
    backward = loop._backward

    def remember(run: Any, objective: Any, batch: Any) -> Any:
        with open(clips.with_name(f"{clips.name}{run.world.rank}"), "a") as file:
            file.write(json.dumps([run.state.step, batch.clip_id.tolist()]) + "\n")
        return backward(run, objective, batch)

    loop._backward = remember


def clips_of_steps(path: Path, rank: int) -> dict[int, list[int]]:
    """The clips of every step; a step that was repeated had the same ones."""
    found: dict[int, list[int]] = {}
    for line in path.with_name(f"{path.name}{rank}").read_text().splitlines():
        step, clips = json.loads(line)
        assert found.setdefault(step, clips) == clips
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "kills", "ranks", "steps"), [(0, 20, 1, 200), (1, 8, 2, 100)], ids=["alone", "ranks"]
)
def test_killed_at_random_instants(
    tmp_path: Path, seed: int, kills: int, ranks: int, steps: int
) -> None:
    """Run with -s to see every kill."""
    board = Board()
    options = (*RUN, f"trainer.num_steps={steps}")

    def start(name: str) -> Ranks:
        board.clear()
        prepare = functools.partial(watch, board.cells, tmp_path / f"{name}.clips")
        return Ranks(tmp_path / name, options, ranks, prepare)

    assert start("whole").wait(TOO_LONG_S) == [0] * ranks
    print(f"\nseed {seed}, {ranks} processes, {steps} steps, saved every {SAVE_EVERY}")
    for i, kill in enumerate(plan(seed, kills, ranks)):
        run = start("broken")
        board.wait_for(kill, run.processes[0].is_alive)
        doing, reached = board.phase(), board.cells[1]
        run.send(kill.number, kill.rank)
        codes = run.wait(TOO_LONG_S)
        assert None not in codes, "a rank stayed"
        assert 0 not in codes, "the run ended before it was killed: plan fewer steps per kill"
        reached = max(reached, board.cells[1])
        saved = checkpoint.newest(tmp_path / "broken")
        found = 0 if saved is None else saved[1]["step"]
        lost = max(0, reached - found)
        print(
            f"kill {i + 1:2d}: {kill.number.name:7s} to rank {kill.rank} during {doing:13s}"
            f" at step {reached:3d}; exit {codes}; found step {found:3d}, lost {lost}"
        )
        assert lost <= SAVE_EVERY
        if kill.number != signal.SIGKILL and -kill.number not in codes:
            assert lost == 0
            assert codes == [128 + kill.number] * ranks
    assert start("broken").wait(TOO_LONG_S) == [0] * ranks
    a, b = (
        checkpoint.read(checkpoint.checkpoint_path(tmp_path / name, steps))
        for name in ("whole", "broken")
    )
    left = {path.name for path in (tmp_path / "broken" / "checkpoints").iterdir()}
    assert left == {path.name for path in (tmp_path / "whole" / "checkpoints").iterdir()}
    for key in ("objective", "optimizer", "best", "evaluated_step"):
        assert_same(a[key], b[key], key)
    for rank in range(ranks):
        whole, broken = (clips_of_steps(tmp_path / f"{n}.clips", rank) for n in ("whole", "broken"))
        assert sorted(whole) == list(range(steps))
        assert whole == broken


def test_the_next_save_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = checkpoint.checkpoint_path(tmp_path, 2)
    checkpoint.save_atomic(path, {"step": 2})
    for name in (".step_000000001.4711.pt", ".best.4711.pt"):
        (path.parent / name).write_bytes(b"half")
    checkpoint.keep_last(tmp_path, 1)
    assert list(path.parent.iterdir()) == [path]
