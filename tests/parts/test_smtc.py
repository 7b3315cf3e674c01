"""The two-level grouper against worked numbers: literal inputs, named draws, gradients."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.groupers.smtc import SMTC
from slotreel.noise import Noise
from slotreel.types import Dims, FrameFeatures, GrouperOutput, Level
from tests.parts.smtc_numbers import draw, fill, parameter


class Given(Noise):
    """A source that returns the tensor it was made with."""

    def __init__(self, value: Tensor) -> None:
        super().__init__(0)
        self.value = value

    def normal(self, name: str, shape: Any, like: Tensor) -> Tensor:
        assert self.value.shape == tuple(shape)
        return self.value


def dims(slot: int, semantics: int, grid: tuple[int, int] = (1, 3), T: int = 2) -> Dims:
    return Dims(slot, slot, semantics, semantics, grid, (8, 8), T)


def close(got: Tensor, want: list[float], tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got.flatten(), torch.tensor(want), atol=tolerance, rtol=1e-5)


def unfused(grouper: SMTC) -> SMTC:
    """The grouper with the fusion switched off, to test the stages alone."""
    torch.nn.init.zeros_(grouper.fusion.weight)
    torch.nn.init.zeros_(grouper.fusion.bias)
    return grouper


def run(grouper: SMTC, query: Tensor, tokens: Tensor, eps: Tensor) -> GrouperOutput:
    """One frame: query (B, S, D), tokens (B, N, D), eps (B, S, P, D)."""
    features = FrameFeatures(tokens[:, None], grouper.grid)
    memory, _ = grouper.prepare(tokens[:, None], features, None)
    key, value = (part[:, 0] for part in memory)
    return grouper(query, (key, value), first=True, noise=Given(eps))


def test_fusion_adds_the_projected_correspondence() -> None:
    grouper = SMTC(dims(2, 1, (1, 2)), num_instances=1, first_reference="wrap")
    for name in ("to_key", "to_value"):
        torch.nn.init.eye_(getattr(grouper, name).weight)
        torch.nn.init.zeros_(getattr(grouper, name).bias)
    grouper.norm_tokens = torch.nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        grouper.fusion.weight.copy_(torch.tensor([[1, 0.5], [-1, 2]]))
        grouper.fusion.bias.copy_(torch.tensor([0.1, -0.1]))
    maps = torch.tensor([[[1.0, 0], [2, 1]], [[0, 3], [1, -1]]])  # [frame][channel][position]
    tokens = maps.transpose(1, 2)[None]
    memory, _ = grouper.prepare(tokens, FrameFeatures(tokens, (1, 2)), None)
    fused = memory.key[0].transpose(1, 2)
    close(fused, [3.6, 0.6, 1.9, -2.1, 2.6, 3.6, 0.9, -4.1])


def literal_grouper() -> SMTC:
    grouper = unfused(SMTC(dims(4, 2), num_instances=2))
    for layer in (grouper.to_query, grouper.to_key, grouper.to_value, grouper.mlp[0]):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        grouper.mlp[2].weight.copy_(0.5 * torch.eye(4))
        grouper.mlp[2].bias.zero_()
        grouper.log_std.copy_(torch.tensor([0.5, 2.0]).log()[:, None].expand(2, 4))
    return grouper


def test_literal_stages() -> None:
    query = torch.tensor([[[1, 0, 0, -1], [0, 1, -1, 0.5]]])
    tokens = torch.tensor([[[2.0, 0, 1, -1], [0, 3, -1, 0], [1, 1, 0, -2]]])
    eps = torch.tensor([[[[0, 1, 0, 0], [1, 0, 0, -1]], [[0.5, 0, 0, 0], [0, 0, -0.5, 0.5]]]])
    out = run(literal_grouper(), query, tokens, eps)
    semantic, instance = out.levels["semantic"], out.levels["instance"]
    assert semantic.logits is not None
    assert instance.logits is not None
    close(semantic.logits, [1.871023, 0.099770, 1.788206, -0.443484, 1.993049, 0.944489])
    close(
        semantic.slots,
        [5.934787, 0.946993, 0.545250, -5.158972, -0.007724, 7.517060, -3.138747, -1.460562],
    )
    close(
        instance.logits,
        [1.805850, 0.280457, 1.871062, 1.916459, -0.045558, 1.731412,
         0.471665, 1.694059, 1.549853, -0.632912, 1.956218, 0.673188],
    )  # fmt: skip
    close(
        out.slots,
        [5.981103, 1.684918, 0.675119, -5.497743, 6.801244, 0.451775, 0.901722, -5.926145,
         2.977076, 6.439113, -2.181706, -2.863149, 0.161581, 7.294199, -3.989775, -0.650198],
    )  # fmt: skip


def seeded(S: int = 3, P: int = 2, d: int = 8, N: int = 6, **options: Any) -> tuple[SMTC, Tensor]:
    grouper = unfused(SMTC(dims(d, S, (1, N)), num_instances=P, **options))
    fill(grouper)
    return grouper, parameter("slots_mu", (1, S, 1, d)).reshape(1, S, d)


def toy(**options: Any) -> GrouperOutput:
    grouper, mu = seeded(**options)
    tokens, eps = 2 * draw("x_sa_toy", (2, 6, 8)), draw("eps_sa_toy", (2, 3, 2, 8))
    return run(grouper, mu.expand(2, -1, -1), tokens, eps)


def test_draws_are_the_published_ones() -> None:
    close(draw("x_sa_toy", (2, 6, 8)).flatten()[:3], [0.842686, 1.263711, -1.350006])


def test_seeded_stages() -> None:
    out = toy()
    semantic, instance = out.levels["semantic"], out.levels["instance"]
    assert semantic.logits is not None
    assert instance.logits is not None
    close(
        semantic.logits[0],
        [-0.939417, 0.330800, 0.009070, -0.577497, -0.396269, 0.970584,
         -0.875078, 0.249382, 0.751991, 0.219628, -0.432892, 1.596257,
         -0.226699, 0.799018, -0.140846, -0.253479, 0.055556, 0.423413],
    )  # fmt: skip
    close(
        semantic.slots[0, 0],
        [-1.549892, 2.130251, 1.804565, -1.297839, 1.097582, 1.866760, -1.971569, -3.139609],
    )
    close(
        instance.logits[0, :2],
        [-1.832107, -0.167417, 0.240696, -0.414661, -0.392610, 1.517951,
         -1.346258, -0.098869, -0.231595, -0.771810, -0.308180, 0.752388],
    )  # fmt: skip
    close(
        out.slots[0, 0],
        [-0.231467, 2.507590, -0.207465, -1.805481, -1.420629, 1.629413, -2.009862, -2.900304],
    )
    close(
        out.slots[0, 3],
        [0.943262, 7.890950, -1.513563, -1.424109, 0.000168, -4.447191, 6.130089, -4.775597],
    )
    assert float((semantic.logits > 0.3).float().mean()) == pytest.approx(0.361111, abs=1e-6)


@pytest.mark.parametrize(
    ("num_iters", "first"),
    [(1, [1.640439, 1.812659, -1.899560]), (2, [2.148191, 3.359624, -2.374051]),
     (5, [-0.588263, 3.940874, 0.166257])],
)  # fmt: skip
def test_any_number_of_rounds(num_iters: int, first: list[float]) -> None:
    close(toy(num_iters=num_iters).slots[0, 0, :3], first)


def test_soft_gate_of_the_first_release() -> None:
    close(
        toy(gate="soft").slots[0, 0],
        [-0.388158, 2.605118, 0.822840, -2.023832, 0.228569, -0.372360, -1.266236, -3.565031],
    )


def test_hard_gate_on_probabilities_closes_what_another_semantic_holds() -> None:
    """With a threshold of 0 it is no gate; above 1 instances are changed by the MLP alone."""
    open_gate = toy(gate="hard_probability", gate_threshold=0.0)
    closed = toy(gate="hard_probability", gate_threshold=1.0)
    always = toy(gate="hard_logit", gate_threshold=-1e9)
    assert torch.equal(open_gate.slots, always.slots)
    assert torch.equal(closed.slots, toy(gate="hard_logit", gate_threshold=1e9).slots)
    assert not torch.allclose(open_gate.slots, closed.slots)


def test_seeded_gradients() -> None:
    grouper, mu = seeded()
    mu.requires_grad_()
    tokens = (2 * draw("x_sa_toy", (2, 6, 8))).requires_grad_()
    out = run(grouper, mu.expand(2, -1, -1), tokens, draw("eps_sa_toy", (2, 3, 2, 8)))
    semantic, instance = out.levels["semantic"], out.levels["instance"]
    outputs = (semantic.slots, semantic.logits, instance.slots, instance.logits)
    shapes = ((2, 3, 8), (2, 3, 6), (2, 3, 2, 8), (2, 3, 2, 6))
    total = torch.zeros(())
    for k, (output, shape) in enumerate(zip(outputs, shapes, strict=True)):
        assert output is not None
        total = total + (output.reshape(shape) * draw(f"cot_sa_toy_{k}", shape)).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert tokens.grad is not None
    assert mu.grad is not None
    parameters = dict(grouper.named_parameters())
    found = {name: p.grad.norm() for name, p in parameters.items() if p.grad is not None}
    found |= {"tokens": tokens.grad.norm(), "mu": mu.grad.norm()}
    wanted = {
        "tokens": 6.218673, "mu": 7.476078, "log_std": 0.0, "norm_tokens.weight": 11.199773,
        "norm_slots.weight": 13.821712, "to_query.weight": 29.384062, "to_key.weight": 29.449684,
        "to_value.weight": 21.660490, "mlp.0.weight": 32.453426, "mlp.2.weight": 12.489851,
    }  # fmt: skip
    for name, norm in wanted.items():
        assert float(found[name]) == pytest.approx(norm, rel=1e-5, abs=0), name


def test_published_width() -> None:
    grouper, mu = seeded(16, 4, 384, 40)
    tokens, eps = 2 * draw("x_sa_ful", (3, 40, 384)), draw("eps_sa_ful", (3, 16, 4, 384))
    with torch.no_grad():
        out = run(grouper, mu.expand(3, -1, -1), tokens, eps)
    wanted = {
        "semantic": [0.017646, 0.978046, 4.050211, 0.642882, 0.084461, -0.302506],
        "semantic slots": [-0.061867, 2.293622, 9.112389, -4.903106, 1.439216, -1.816626],
        "instance": [-0.002777, 0.990126, 3.869473, 1.295480, -1.170993, -1.012580],
        "instance slots": [-0.052033, 2.625424, 12.127833, -6.326069, -0.720191, 0.513172],
    }
    for name, want in wanted.items():
        level = out.levels[name.split()[0]]
        values = level.slots if "slots" in name else level.logits
        assert values is not None
        facts = [values.mean(), values.std(correction=0), values.abs().max()]
        close(torch.stack([*facts, *values.flatten()[:3]]), want, 2e-5)


def test_masks_are_assignments_and_levels_belong_together() -> None:
    out = toy()
    semantic, instance = out.levels["semantic"], out.levels["instance"]
    ones = torch.ones(2, 6)
    for masks in (out.masks, semantic.masks, instance.masks):
        torch.testing.assert_close(masks.sum(1), ones)
    torch.testing.assert_close(out.masks.reshape(2, 3, 2, 6).sum(2), semantic.masks)
    assert torch.equal(instance.slots, out.slots)


def test_confidence_is_the_cosine_with_the_own_semantic() -> None:
    grouper, mu = seeded()
    out = run(grouper, mu.expand(2, -1, -1), draw("x", (2, 6, 8)), draw("eps", (2, 3, 2, 8)))
    sure = grouper.confidence(out.slots, out.levels).detach()
    semantic, instance = out.levels["semantic"].slots, out.slots
    for b, s, p in itertools.product(range(2), range(3), range(2)):
        own, its = instance[b, 2 * s + p].detach(), semantic[b, s].detach()
        cosine = float(own @ its / (own.norm() * its.norm()))
        assert float(sure[b, 2 * s + p]) == pytest.approx(max(cosine, 0.0), abs=1e-6)


def test_diagnostics_count_open_gates_and_semantics_that_win() -> None:
    """Of three semantics the second wins three of four tokens, the third none."""
    logits = torch.tensor([[0.5, 0.0, 0.2, 0.1], [0.1, 0.4, 0.9, 0.3], [0.0, 0.1, 0.0, 0.2]])
    masks = logits.softmax(dim=0)
    levels = {"semantic": Level(torch.zeros(1, 1, 3, 8), masks[None, None], logits[None, None])}
    hard = seeded(gate="hard_logit")[0].diagnostics(levels)
    assert float(hard["semantics_alive"]) == pytest.approx(2 / 3)
    assert float(hard["gate_open"]) == pytest.approx(3 / 12)  # 0.5, 0.4 and 0.9 are above 0.3
    share = seeded(gate="hard_probability", gate_threshold=0.4)[0].diagnostics(levels)
    assert float(share["gate_open"]) == pytest.approx(float((masks > 0.4).float().mean()))
    assert set(seeded(gate="soft")[0].diagnostics(levels)) == {"semantics_alive"}


def test_semantics_may_be_permuted() -> None:
    grouper, mu = seeded()
    tokens, eps = draw("x", (2, 6, 8)), draw("eps", (2, 3, 2, 8))
    order = torch.tensor([2, 0, 1])
    one = run(grouper, mu.expand(2, -1, -1), tokens, eps)
    with torch.no_grad():
        grouper.log_std.copy_(grouper.log_std[order])
    two = run(grouper, mu[:, order].expand(2, -1, -1), tokens, eps[:, order])
    moved = one.slots.reshape(2, 3, 2, 8)[:, order].flatten(1, 2)
    torch.testing.assert_close(two.slots, moved)


def test_reparameterised_noise_trains_the_spread_and_the_query() -> None:
    for instances, moves in (("detached", False), ("reparameterised", True)):
        grouper, mu = seeded(instances=instances)
        mu.requires_grad_()
        eps = draw("eps", (1, 3, 2, 8))
        run(grouper, mu, draw("x", (1, 6, 8)), eps).slots.square().sum().backward()  # type: ignore[no-untyped-call]
        assert grouper.log_std.grad is not None
        assert bool(grouper.log_std.grad.any()) is moves
        assert (mu.grad is not None and bool(mu.grad.any())) is moves


def test_full_gradient_reaches_the_values_of_early_rounds() -> None:
    norms = []
    for gradient in ("last", "full"):
        grouper, mu = seeded(gradient=gradient)
        out = run(grouper, mu, draw("x", (1, 6, 8)), draw("eps", (1, 3, 2, 8)))
        logits = out.levels["semantic"].logits
        assert logits is not None
        grad = torch.autograd.grad(logits.sum(), grouper.mlp[2].weight, allow_unused=True)[0]
        norms.append(0.0 if grad is None else float(grad.norm()))
    assert norms[0] == 0 < norms[1]


def test_noise_per_clip_is_the_same_in_all_frames() -> None:
    for draw_, same in (("per_clip", True), ("per_frame", False)):
        grouper, mu = seeded(draw=draw_)
        clip = Noise(3).child("clip")
        starts = [grouper._draw_instances(mu, clip.frame(t)) for t in range(2)]
        assert torch.equal(*starts) is same


def test_references_of_a_clip_and_of_its_parts_agree() -> None:
    """Frame by frame, with the carry, is the same as all at once; only wrap looks ahead."""
    tokens = draw("clip", (2, 4, 12, 8))
    grouper = SMTC(dims(8, 3, (3, 4)), first_reference="self")
    whole, _ = grouper.prepare(tokens, FrameFeatures(tokens, (3, 4)), None)
    carry, parts = None, []
    for t in range(4):
        one = tokens[:, t : t + 1]
        memory, carry = grouper.prepare(one, FrameFeatures(one, (3, 4)), carry)
        parts.append(memory.key)
    torch.testing.assert_close(torch.cat(parts, 1), whole.key)
    assert grouper.window is None
    wrapped = SMTC(dims(8, 3, (3, 4)), first_reference="wrap")
    wrapped.load_state_dict(grouper.state_dict())
    around, _ = wrapped.prepare(tokens, FrameFeatures(tokens, (3, 4)), None)
    assert wrapped.window == 2
    assert torch.equal(around.key[:, 1:], whole.key[:, 1:])
    assert not torch.allclose(around.key[:, 0], whole.key[:, 0])


def test_other_grids_than_at_training() -> None:
    grouper = SMTC(dims(8, 3, (3, 4)))
    tokens = draw("clip", (1, 2, 40, 8))
    memory, carry = grouper.prepare(tokens, FrameFeatures(tokens, (5, 8)), None)
    assert memory.key.shape == (1, 2, 40, 8)
    assert carry.shape == (1, 1, 12, 8)


def test_start_of_the_spread() -> None:
    grouper = SMTC(dims(384, 16))
    bound = math.sqrt(6 / (384 * 17))
    assert bound == pytest.approx(0.0303, abs=1e-4)
    assert 0.9 * bound < float(grouper.log_std.detach().abs().max()) <= bound


@pytest.mark.parametrize(
    ("options", "message"),
    [({"gate": "hard"}, "hard_logit"), ({"num_instances": 0}, "num_instances=4"),
     ({"instances": "none"}, "detached"), ({"first_reference": "previous"}, "wrap")],
)  # fmt: skip
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMTC(dims(4, 2), **options)
