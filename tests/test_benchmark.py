"""The benchmark of a step: counts against closed formulas, phases, floors, what is written.

No time is asserted.
"""

from __future__ import annotations

import itertools
import json
import math
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from slotreel.assemble import build_objective
from slotreel.build import build_run
from slotreel.composing import compose_config
from slotreel.data.loader import to_device
from slotreel.decoders.mlp import MLPDecoder
from slotreel.runtime.distributed import World
from slotreel.speed import timeline
from slotreel.speed.borders import least_bytes
from slotreel.speed.ceilings import Ceilings, Sizes, best_of, measure_ceilings
from slotreel.speed.counting import Counter
from slotreel.speed.measuring import count
from slotreel.speed.plain import PlainMLPDecoder
from slotreel.speed.timeline import Phase, Timeline, watched
from slotreel.speed.workload import Workload, loader_milliseconds
from slotreel.training import loop
from slotreel.training.recent import Recent
from slotreel.types import Dims, Progress, Target
from tests import running

CPU = torch.device("cpu")
# The reference workload with frames of 4 x 4 patches and a network of one block.
SMALL = (
    "benchmark=slotcontrast_cpu", "image_size=56", "num_slots=3", "slot_dim=16", "clip_length=3",
    "trainer.batch_size=2", "decoder.hidden_dim=24", "+backbone.model_args.depth=1",
)  # fmt: skip
B, T, N, E, K, D, HIDDEN = 2, 3, 16, 384, 3, 16, 24


@pytest.fixture
def script(benchmark) -> ModuleType:
    return benchmark("benchmark")


def workload(*overrides: str) -> Workload:
    return Workload(compose_config("benchmark", [*SMALL, *overrides]), CPU)


def linear(rows: int, inputs: int, outputs: int) -> int:
    """Floating point operations of a linear layer."""
    return 2 * rows * inputs * outputs


def formulas(plain: bool) -> dict[str, int]:
    """Forward operations of each part of SMALL, by hand."""
    tokens = N + 1  # with the class token
    block = linear(tokens, E, (3 + 1 + 8) * E) + 2 * linear(tokens, tokens, E)
    backbone = B * T * (linear(N, 3 * 14 * 14, E) + block)
    projector = B * T * (linear(N, E, 2 * E) + linear(N, 2 * E, D))
    update = linear(K, D, 3 * D) * 2 + 2 * linear(K, D, 4 * D)  # GRU and MLP
    attend = linear(K, D, D) + 2 * linear(K, D, N)
    rounds = 3 + 2 * (T - 1)
    predictor = linear(K, D, 4 * D) + 2 * linear(K, D, K) + 2 * linear(K, D, 4 * D)
    scan = B * (T * 2 * linear(N, D, D) + rounds * (attend + update) + (T - 1) * predictor)
    body = B * T * N * K * 2 * linear(1, HIDDEN, HIDDEN)
    if plain:
        own = linear(1, D, HIDDEN) + linear(1, HIDDEN, E + 1)
        decoder = body + B * T * N * K * own
    else:
        first = linear(B * T * K, D, HIDDEN) + linear(N, D, HIDDEN)
        logits_and_mixture = 2 * linear(B * T * N * K, HIDDEN, 1)
        decoder = body + first + logits_and_mixture + linear(B * T * N, HIDDEN, E)
    contrast = linear((T - 1) * B * K, D, B * K)
    parts = {"backbone": backbone, "projector": projector, "scan": scan}
    return parts | {"decoder": decoder, "losses": contrast}


@pytest.mark.parametrize("plain", [False, True], ids=["own", "plain"])
def test_counts_are_those_of_the_formulas(plain: bool) -> None:
    costs = count(workload(f"benchmark.baseline={str(plain).lower()}"))
    again = {"scan": B * (T - 1) * linear(K, D, K)}  # the predictor's logits, not kept
    for part, flops in formulas(plain).items():
        assert costs[Phase(part, "forward")].flops == flops, part
        if part != "backbone":
            backward = costs[Phase(part, "backward")].flops
            assert backward == 2 * flops + again.get(part, 0), part
    assert Phase("backbone", "backward") not in costs
    assert costs[Phase("optimizer", "update")].flops == 0


OTHERS = {
    "mixer": ("decoder=slot_mixer", "losses=videosaur", "backbone=tiny_vit"),
    "trained": ("backbone=small_cnn", "losses=pixel_rec", "decoder=spatial_broadcast"),
    "smtc": ("grouper=smtc", "decoder=none", "losses=slot_contrast", "predictor=gru"),
}


@pytest.mark.parametrize(
    "more",
    [(), *(pytest.param(more, marks=pytest.mark.slow) for more in OTHERS.values())],
    ids=["slotcontrast", *OTHERS],
)
def test_parts_sum_to_the_whole(more: tuple[str, ...]) -> None:
    cfg = compose_config("benchmark", ["debug=tiny", "losses=ss_contrastive", *more])
    work = Workload(cfg, CPU)
    costs = count(work)
    with FlopCounterMode(display=False) as whole:
        work.step(Timeline(CPU))
    assert sum(cost.flops for cost in costs.values()) == whole.get_total_flops() > 0


def test_phases_follow_each_other_as_the_work_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setitem(timeline.CLOCKS, "wall", lambda: next(ticks) / 1000)
    work = workload()
    line = Timeline(CPU)
    with watched(work.objective.model, line):
        work.step(line)
    seen = [phase for phase, _ in line._ends]
    order = [phase for phase, _ in itertools.groupby(seen)]
    forward = [
        "losses",
        "scan",
        "backbone",
        "scan",
        "projector",
        "scan",
        "losses",
        "decoder",
        "losses",
    ]
    backward = ["losses", "decoder", "losses", "scan", "projector"]
    assert order == [Phase(part, "forward") for part in forward] + [
        Phase(part, "backward") for part in backward
    ]
    times = line.milliseconds()
    assert sum(times.values()) == pytest.approx(next(ticks) - 1)
    assert times[Phase("optimizer", "update")] == pytest.approx(1)
    before = len(line._ends)
    work.step(Timeline(CPU))
    assert len(line._ends) == before, "no longer watched"


def test_traffic_counts_reads_and_writes_once() -> None:
    line = Timeline(CPU)
    x, y = torch.ones(10), torch.ones(1).expand(10)
    with Counter(line) as counter:
        total = x + x  # reads 40 bytes twice, writes 40
        line.switch("decoder")
        x.view(2, 5).t().unsqueeze(0)
        torch.empty(1000)
        line.switch("scan")
        total.add_(y)  # reads 40 and, repeated, 4; writes 40
    costs = {phase.part: cost.traffic for phase, cost in counter.costs.items()}
    assert costs == {"losses": 120, "decoder": 0, "scan": 84}


def test_least_bytes_are_those_of_the_borders() -> None:
    work = workload()
    least = least_bytes(work)
    trained = sum(4 * p.numel() for p in work.objective.parameters() if p.requires_grad)
    assert least[Phase("optimizer", "update")] == 7 * trained  # g, and w, m, v twice
    weights = sum(4 * p.numel() for p in work.objective.model.projector.parameters())
    features, tokens = 4 * B * T * N * E, 4 * B * T * N * D
    assert least[Phase("projector", "forward")] == features + weights + tokens
    assert least[Phase("projector", "backward")] == features + 2 * weights + tokens
    assert Phase("backbone", "backward") not in least
    costs = count(work)
    for phase, cost in costs.items():
        assert cost.traffic >= least[phase] > 0, phase


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 2, 3]),
    st.integers(0, 99),
)  # fmt: skip
def test_the_plain_decoder_is_the_same_function(
    clips: int, slots: int, side: int, layers: int, seed: int
) -> None:
    torch.manual_seed(seed)
    dims = Dims(5, 4, slots, slots, (side, side), (side, side), 1)
    targets = {"features": Target(5, "patch")}
    own = MLPDecoder(dims, targets, hidden_dim=6, num_layers=layers).double()
    other = PlainMLPDecoder(dims, targets, hidden_dim=6, num_layers=layers).double()
    other.load_state_dict(own.state_dict())
    given_slots = torch.randn(clips, slots, 4, dtype=torch.double, requires_grad=True)
    wanted = torch.randn(clips, side * side, 5, dtype=torch.double)
    results = []
    for decoder in (own, other):
        out = decoder(given_slots, (side, side), per_slot=True)
        assert out.masks is not None
        assert out.per_slot is not None
        error = (out.pred["features"] - wanted).square().mean() + out.masks.square().mean()
        gradients = torch.autograd.grad(error, [given_slots, *decoder.parameters()])
        results.append([error, out.masks, out.per_slot["features"], *gradients])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_the_baseline_gives_the_same_loss_and_gradients() -> None:
    results = []
    for baseline in ("false", "true"):
        work = workload(f"benchmark.baseline={baseline}")
        out = work.objective(work.batch, Progress(0, 10))
        out.total.backward()
        named = work.objective.named_parameters()
        gradients = {name: p.grad for name, p in named if p.grad is not None}
        results.append((out.total, gradients, work))
    (loss, own, _), (other_loss, other, plain) = results
    assert type(plain.objective.model.decoder) is PlainMLPDecoder
    assert not plain.cfg.optim.optimizer.fused
    torch.testing.assert_close(loss, other_loss, rtol=1e-5, atol=0)
    assert own.keys() == other.keys()
    for name in own:
        scale = float(other[name].abs().max())
        assert scale > 0, name
        torch.testing.assert_close(own[name] / scale, other[name] / scale, rtol=0, atol=1e-5)


def test_a_step_is_that_of_the_loop(tmp_path: Path) -> None:
    overrides = [*running.TINY, "losses=ss_contrastive", "optim.clip.max=0.05"]
    cfg = compose_config("benchmark", overrides)
    run = build_run(cfg, World(), CPU, tmp_path, sinks=list)
    batches = [to_device(batch, CPU) for batch, _ in zip(run.batches(0), range(2), strict=False)]
    work = Workload(cfg, CPU)
    recent = Recent(run)
    run.objective.train()
    for batch in batches:
        loop._train_step(run, run.objective, iter([batch]), recent, _NeverStop())
        work.batch = batch
        work.step(Timeline(CPU))
    for (name, one), two in zip(
        run.objective.named_parameters(), work.objective.parameters(), strict=True
    ):
        assert torch.equal(one, two), name


class _NeverStop:
    hit = False


def test_a_step_waits_for_the_device_once() -> None:
    work = workload()
    for _ in range(2):  # the first step makes the optimizer's state
        with _Waits() as waits:
            work.step(Timeline(CPU))
    assert waits.seen == 1


class _Waits(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts values that the program reads, for which a GPU would be waited for."""

    seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func._overloadpacket in (
            torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal,
        )  # fmt: skip
        return func(*args, **(kwargs or {}))


SHAPES = {
    "slotcontrast_cpu": (1, 224, 7, 64, 384),
    "slotcontrast_gpu_movi_c": (64, 336, 11, 64, 384),
    "slotcontrast_gpu_movi_e": (64, 336, 15, 128, 768),
    "slotcontrast_gpu_ytvis": (64, 518, 7, 64, 768),
}


def test_workloads_have_the_published_shapes() -> None:
    assert {path.stem for path in (running.CONF / "benchmark").glob("*.yaml")} == set(SHAPES)
    for name, (clips, size, slots, width, features) in SHAPES.items():
        cfg = compose_config("benchmark", [f"benchmark={name}"])
        assert (cfg.trainer.batch_size, cfg.clip_length, cfg.image_size) == (clips, 4, size)
        assert (cfg.num_slots, cfg.slot_dim, cfg.trainer.precision) == (slots, width, "fp32")
        assert cfg.backbone.model.startswith({384: "vit_small", 768: "vit_base"}[features])
        assert cfg.backbone.weights == "random"
        assert (cfg.decoder.hidden_dim, cfg.decoder.num_layers) == (1024, 3)
        assert list(cfg.losses) == ["feature_rec", "slot_contrast"]
        assert cfg.optim.clip.max == 0.05
        assert cfg.trainer.device == ("cuda" if "gpu" in name else "auto")


def test_two_ways_are_compared_and_written(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers.json"
    typed = ["debug=tiny", "--compare", "", "benchmark.baseline=true", "--repeats", "3"]
    assert script.main([*typed, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["overrides"] == ["debug=tiny"]
    assert result["machine"]["load"] >= 0
    one, other = result["workloads"]
    assert (one["name"], other["name"]) == ("debug=tiny", "benchmark.baseline=true")
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    for way in (one, other):
        check_rows(way)
    quotients = sorted(
        b / a for a, b in zip(*(w["step"]["all_ms"] for w in (one, other)), strict=True)
    )
    assert result["compare"]["ratio"] == pytest.approx(quotients[1])
    assert result["compare"]["q25"] <= quotients[1] <= result["compare"]["q75"]
    assert f"benchmark.baseline=true / debug=tiny: {quotients[1]:.2f}" in printed


def check_rows(way: dict[str, Any]) -> None:
    """Every number is there, and those that belong together agree."""
    ceilings, step = way["ceilings"], way["step"]
    parts = {row["part"] for row in way["parts"]}
    assert parts == {"backbone", "projector", "scan", "decoder", "losses", "optimizer"}
    for row in way["parts"]:
        arithmetic, moving = (
            row["flops"] / ceilings["matmul"],
            row["least_bytes"] / ceilings["copy"],
        )
        assert row["floor_ms"] == pytest.approx(1000 * max(arithmetic, moving))
        assert 0 < row["floor_ms"] < math.inf
        assert 0 < row["q25"] <= row["ms"] <= row["q75"]
        assert row["ratio"] == pytest.approx(row["ms"] / row["floor_ms"])
    for key in ("flops", "traffic", "floor_ms"):
        assert step[key] == pytest.approx(sum(row[key] for row in way["parts"])), key
    assert len(step["all_ms"]) == 3
    assert way["clips_s"] == pytest.approx(way["batch_size"] * 1000 / step["ms"])
    assert way["peak_bytes"] > 10**6
    assert way["loader_ms"] > 0
    assert way["loader_missing"] is None


def test_data_that_is_not_there_is_said(tmp_path: Path) -> None:
    cfg = compose_config("benchmark", ["dataset=movi_c", f"paths.data={tmp_path}"])
    why = loader_milliseconds(cfg, build_objective(cfg), "wall")
    assert isinstance(why, str)
    assert str(tmp_path) in why


def test_ceilings_are_the_best_seen() -> None:
    for precision in ("fp32", "bf16"):
        found = measure_ceilings(CPU, precision, tries=2, sizes=Sizes(32, 1))
        assert found.dtype == precision
        assert min(found.matmul, found.copy) > 0
    assert best_of(Ceilings(1, 4, "fp32"), Ceilings(2, 3, "fp32")) == Ceilings(2, 4, "fp32")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["decoder=slot_mixer", "benchmark.baseline=true"], "type decoder=mlp"),
        (["losses=colour_rec", "trainer.accumulate=2"], "type trainer.accumulate=1"),
        (["benchmark=slotcontrast"], "benchmark has no option slotcontrast"),
        (["benchmark=slotcontrast_gpu_ytvis"], "trainer.device=cpu"),
        (
            ["model=masked_autoencoder", "backbone=tiny_vit", "backbone.frozen=false"],
            "type model=slots",
        ),
    ],
    ids=["plain", "accumulate", "option", "device", "model"],
)
def test_refusals_say_what_to_type(
    script: ModuleType, capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    if "gpu" in typed[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert script.main(typed) == 1
    assert said in capsys.readouterr().err


def test_documented_commands_compose() -> None:
    pages = [running.ROOT / "README.md", running.ROOT / "docs" / "benchmarks.md"]
    words = [w for page in pages for line in page.read_text().splitlines() for w in line.split("`")]
    typed = [w.strip() for w in words if w.strip().startswith("python scripts/benchmark.py ")]
    assert len(typed) >= 5
    for command in typed:
        overrides = [w for w in shlex.split(command, comments=True)[2:] if "=" in w]
        assert compose_config("benchmark", overrides).trainer.batch_size > 0, command
