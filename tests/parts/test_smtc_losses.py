"""The three terms of SMTC: worked numbers, gradients, laws, refusals."""

import math
import zlib

import numpy as np
import pytest
import torch
from closed_forms import built, context, dims, model_output, random
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from slotreel.errors import ConfigError
from slotreel.layers.transport import carry
from slotreel.losses.instance_consistency import InstanceConsistencyLoss, consistency_sums
from slotreel.losses.semantic_transport import SemanticTransportLoss
from slotreel.losses.slot_divergence import SlotDivergenceLoss, slot_divergence
from slotreel.types import HeadSpec, Level, Needs

SEED = st.integers(0, 10**6)
NEAR = {"atol": 1e-5, "rtol": 0}


def drawn(tag, *shape, uniform=False):
    """Values that only the tag decides: the reference was run on the same."""
    source = np.random.RandomState(zlib.crc32(tag.encode()))
    values = source.random_sample(shape) if uniform else source.standard_normal(shape)
    return torch.from_numpy(values.astype(np.float32))


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def unit(x):
    return nn.functional.normalize(x, dim=-1)


def output(logits, features=None, semantic=None, instances=None):
    """What a two-level model says: logits (B, T, S, N), instances (B, T, S, P, D)."""
    b, t, s, n = logits.shape
    semantic = random(b, t, s, 4, seed=9) if semantic is None else semantic
    instances = semantic[:, :, :, None] if instances is None else instances
    features = random(b, t, n, 4, seed=8) if features is None else features
    slots = instances.flatten(2, 3)
    levels = {
        "semantic": Level(semantic, logits.softmax(2), logits),
        "instance": Level(slots, slots, slots),
    }
    return model_output(slots, features, (1, n))._replace(levels=levels)


def seen(student, teacher=None, heads=None, teacher_heads=None, gather=lambda x: x):
    """What a loss sees of a student and its teacher."""
    modules = [nn.ModuleDict({"object": head or nn.Identity()}) for head in (heads, teacher_heads)]
    ctx = context(student.slots, tokens=student.features.tokens, gather=gather)
    return ctx._replace(
        student=(student,), teacher=teacher, heads=modules[0], teacher_heads=modules[1]
    )


def sinkhorn(cost, rows, columns, *, epsilon=0.05, num_iters=3, log_domain=False):
    """The plan itself: what it makes of unit vectors."""
    kernel = cost / -epsilon if log_domain else (cost / -epsilon).exp()
    one = torch.eye(cost.shape[-1], dtype=cost.dtype)
    return carry(one, kernel, rows, columns, num_iters=num_iters, log_domain=log_domain)


def gradient_norm(value, x):
    return torch.autograd.grad(value, x)[0].norm().item()


OPTIONS = {
    "slot_divergence": SlotDivergenceLoss,
    "semantic_transport": SemanticTransportLoss,
    "instance_consistency": InstanceConsistencyLoss,
}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_builds_with_its_yaml(option):
    loss = built("losses", option, key=option, dims=dims())
    assert (type(loss), loss.weight) == (OPTIONS[option], 1.0)


def test_needs():
    assert SlotDivergenceLoss(dims()).needs == Needs(pixels=False)
    needs = SemanticTransportLoss(dims()).needs
    assert (needs.teacher, needs.frozen_target, needs.min_frames) == (True, True, 2)
    keyed = dims()._replace(key_width=6)
    assert SemanticTransportLoss(keyed).needs.features == {"keys"}
    assert SemanticTransportLoss(keyed, features="tokens").needs.features == frozenset()
    needs = InstanceConsistencyLoss(dims(slot=8)).needs
    assert needs.heads == {"object": HeadSpec(8, 16, 8)}
    assert needs.levels == {"semantic", "instance"}
    assert needs.teacher
    assert needs.batch_wide
    assert not needs.frozen_target


# --- slot_divergence -------------------------------------------------------------------------


def test_divergence_worked_example():
    logits = tensor([2, 0, -1], [0, 1, 0.5])[None, None]
    value, _ = SlotDivergenceLoss(dims())(seen(output(logits)))
    assert value.item() == pytest.approx(0.435199, abs=1e-6)


def test_divergence_of_seeded_logits():
    logits = (2 * drawn("l_logits", 2, 3, 3, 5)).requires_grad_()
    value, _ = SlotDivergenceLoss(dims())(seen(output(logits)))
    assert value.item() == pytest.approx(0.407559, abs=1e-5)
    assert gradient_norm(value, logits) == pytest.approx(0.058950, abs=1e-5)


@given(seed=SEED, slots=st.integers(2, 6), tokens=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_divergence_is_the_mean_cosine_of_pairs_in_any_order(seed, slots, tokens):
    masks = (3 * random(2, 3, slots, tokens, seed=seed).double()).softmax(2)
    u = unit(masks + 1e-8)
    cosine = (u @ u.mT).masked_fill(torch.eye(slots, dtype=torch.bool), 0)
    value = slot_divergence(masks)
    assert value.item() == pytest.approx(cosine.sum().item() / (6 * slots * (slots - 1)), abs=1e-9)
    assert -1e-9 <= value <= 1 + 1e-9
    order = torch.randperm(slots, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(slot_divergence(masks[:, :, order]), value)
    halves = torch.stack([slot_divergence(part) for part in masks.split(1)])
    torch.testing.assert_close(halves.mean(), value)


def test_divergence_works_with_any_grouper_and_level():
    masks = random(2, 2, 4, 6).softmax(2)
    plain = model_output(random(2, 2, 4, 8), random(2, 2, 6, 3))._replace(masks=masks)
    value = SlotDivergenceLoss(dims())(seen(plain))[0]
    assert torch.equal(value, slot_divergence(masks))
    semantic = output(random(2, 2, 3, 6))._replace(masks=masks)
    levels = {level: SlotDivergenceLoss(dims(), level=level) for level in ("auto", "slots")}
    assert torch.equal(levels["slots"](seen(semantic))[0], slot_divergence(masks))
    expected = slot_divergence(semantic.levels["semantic"].masks)
    assert torch.equal(levels["auto"](seen(semantic))[0], expected)
    with pytest.raises(ConfigError, match="num_slots=2"):
        SlotDivergenceLoss(dims()._replace(num_queries=1))


# --- sinkhorn --------------------------------------------------------------------------------


@pytest.mark.parametrize("log_domain", [False, True])
def test_plans_worked_examples(log_domain):
    rows, columns = (mass / mass.sum() for mass in tensor([1, 1.4], [1.4, 1.4]))
    plan = sinkhorn(tensor([0.4, 1.8], [0.2, 0.4]), rows, columns, log_domain=log_domain)
    torch.testing.assert_close(plan, tensor([0.369113, 0], [0.130887, 0.5]), atol=6e-7, rtol=0)
    assert plan[0, 1].item() == pytest.approx(5.3e-11, rel=0.02)
    torch.testing.assert_close(plan.sum(0), torch.full((2,), 0.5).double())

    rows, columns = (
        mass / mass.sum(-1, keepdim=True)
        for mass in (drawn("l_mu1", 2, 5, uniform=True), drawn("l_mu2", 2, 5, uniform=True))
    )
    cost = drawn("l_cost", 2, 5, 5, uniform=True)
    plan = sinkhorn(cost, rows, columns, log_domain=log_domain)
    first = torch.tensor([0.109277, 0.000069, 0.004898, 0.284359, 0.005762])
    torch.testing.assert_close(plan[0, 0], first, **NEAR)


@given(seed=SEED, epsilon=st.floats(0.03, 1), num_iters=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_plans_equal_those_in_the_log_domain(seed, epsilon, num_iters):
    cost = 1 - unit(random(2, 4, 3, seed=seed)) @ unit(random(2, 6, 3, seed=seed + 1)).mT
    rows = random(2, 4, seed=seed + 2).double().softmax(-1)
    columns = random(2, 6, seed=seed + 3).double().softmax(-1)
    options = {"epsilon": epsilon, "num_iters": num_iters}
    plain, logs = (
        sinkhorn(cost.double(), rows, columns, **options, log_domain=log) for log in (False, True)
    )
    torch.testing.assert_close(plain, logs)
    torch.testing.assert_close(plain.sum(-2), columns)


# --- semantic_transport ----------------------------------------------------------------------


def test_transport_worked_example():
    student = tensor([2, 0], [0, 1], [1, -1], [0, 0]).view(1, 2, 2, 2)
    teacher = tensor([1, 0.5], [0, 0], [0, 2], [1, 0]).view(1, 2, 2, 2)
    keys = tensor([1, 0], [0, 1], [0.6, 0.8], [-0.8, 0.6]).view(1, 2, 2, 2)
    value, _ = SemanticTransportLoss(dims())(seen(output(student), output(teacher, keys)))
    assert value.item() == pytest.approx(1.023259, abs=1e-6)


def small(seed=None, clips=2):
    """Student and teacher on the tensors the reference was run on, or on others."""
    if seed is None:
        logits, others = 2 * drawn("l_logits", 2, 3, 3, 5), 2 * drawn("l_logits_t", 2, 3, 3, 5)
        return logits, others, drawn("l_tok", 2, 3, 5, 4)
    logits, others, features = random(3, clips, 3, 3, 5, seed=seed).double()
    return 2 * logits, 2 * others, features.mT[..., :3]


@pytest.mark.parametrize("log_domain", [False, True])
def test_transport_of_seeded_tensors(log_domain):
    logits, others, features = small()
    logits.requires_grad_()
    loss = SemanticTransportLoss(dims(), log_domain=log_domain)
    value, _ = loss(seen(output(logits), output(others, features)))
    assert value.item() == pytest.approx(1.918647, abs=1e-5)
    assert gradient_norm(value, logits) == pytest.approx(0.128485, abs=1e-5)


def by_pairs(logits, others, features):
    """The formula as written: a loop over pairs and the (S, N, N) product."""
    f, losses = unit(features), []
    student, teacher = logits.softmax(2), others.softmax(2)
    for i in range(f.shape[1]):
        for j in range(f.shape[1]):
            if i != j:
                masses = [f[:, k].abs().sum(-1) for k in (i, j)]
                masses = [mass / mass.sum(-1, keepdim=True) for mass in masses]
                cost = 1 - f[:, i] @ f[:, j].mT
                plan = sinkhorn(cost, *masses)
                entropy = -(teacher[:, j, :, None] * (student[:, i, ..., None] + 1e-8).log()).sum(1)
                losses.append((plan * entropy).sum((1, 2)).mean())
    return torch.stack(losses).mean()


@given(seed=SEED, log_domain=st.booleans())
@settings(max_examples=20, deadline=None)
def test_transport_is_the_sum_over_pairs_and_ignores_order(seed, log_domain):
    logits, others, features = small(seed)
    loss = SemanticTransportLoss(dims(), log_domain=log_domain)

    def value(logits, others, features):
        return loss(seen(output(logits), output(others, features)))[0]

    whole = value(logits, others, features)
    torch.testing.assert_close(whole, by_pairs(logits, others, features))
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(value(logits[:, :, order], others[:, :, order], features), whole)
    torch.testing.assert_close(value(logits[:, order], others[:, order], features[:, order]), whole)
    halves = [value(*(x[part] for x in (logits, others, features))) for part in ([0], [1])]
    torch.testing.assert_close(torch.stack(halves).mean(), whole)


def test_uniform_masks_cost_log_of_the_slots():
    teacher = output(random(2, 3, 16, 5), drawn("l_tok", 2, 3, 5, 4))
    ctx = seen(output(torch.zeros(2, 3, 16, 5)), teacher)
    value = SemanticTransportLoss(dims())(ctx)[0]
    assert value.item() == pytest.approx(math.log(16), abs=1e-5)


def test_transport_takes_keys_where_there_are_any():
    logits, others, features = small()
    teacher = output(others, random(2, 3, 5, 7))
    teacher = teacher._replace(features=teacher.features._replace(keys=features))
    keyed = dims()._replace(key_width=4)
    for name in ("auto", "keys"):
        value = SemanticTransportLoss(keyed, features=name)(seen(output(logits), teacher))[0]
        assert value.item() == pytest.approx(1.918647, abs=1e-5)
    tokens = SemanticTransportLoss(keyed, features="tokens")(seen(output(logits), teacher))[0]
    assert tokens.item() != pytest.approx(1.918647, abs=1e-3)


@pytest.mark.parametrize("log_domain", [False, True])
def test_transport_stays_finite_on_flat_and_on_opposite_features(log_domain):
    flat = torch.zeros(1, 3, 6, 4)
    flat[:, 1] = torch.cat([torch.ones(3, 4), -torch.ones(3, 4)])
    flat[:, 2, :2] = 1.0  # one frame of zeros, one of opposites, one of mostly zeros
    logits = random(1, 3, 2, 6).requires_grad_()
    loss = SemanticTransportLoss(dims(), epsilon=0.025, log_domain=log_domain, num_iters=10)
    value, _ = loss(seen(output(logits), output(random(1, 3, 2, 6, seed=1), flat)))
    assert value.isfinite()
    assert torch.autograd.grad(value, logits)[0].isfinite().all()
    carried = loss.transported(random(1, 3, 2, 6).softmax(2), flat)
    torch.testing.assert_close(carried.sum((2, 3)), torch.full((1, 3), 2.0), atol=1e-3, rtol=0)


def test_transport_refuses():
    name = "losses.semantic_transport"
    for options, answer in (
        ({"num_iters": 0}, f"{name}.num_iters=3"),
        ({"epsilon": 0.0}, f"{name}.epsilon=0.05"),
        ({"epsilon": 0.01}, f"{name}.log_domain=true"),
        ({"features": "key"}, "did you mean: keys"),
        ({"features": "keys"}, f"{name}.features=tokens"),
    ):
        with pytest.raises(ConfigError, match=answer):
            SemanticTransportLoss(dims(), **options)
    one = output(random(1, 1, 3, 5))
    with pytest.raises(ValueError, match="T >= 2"):
        SemanticTransportLoss(dims())(seen(one, one))


# --- instance_consistency --------------------------------------------------------------------


def test_valid_worked_example():
    logits = tensor([3, 3, 0, 0, 0], [0, 0, 3, 0, 0], [0, 0, 0, 3, 3])[None, None]
    semantic = tensor([1, 0], [1, 0], [0, 1])[None, None]
    instances = tensor(
        [[1, 0.2], [0.2, 1]], [[1, 0], [1, 1]], [[1, 1], [2, 1]]
    )[None, None]  # fmt: skip
    valid = InstanceConsistencyLoss(dims()).valid(
        output(logits, semantic=semantic, instances=instances)
    )
    assert valid[0, 0].tolist() == [[1, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize(("membership", "count"), [("relaxed", 31), ("strict", 17)])
def test_valid_of_seeded_tensors(membership, count):
    semantic = drawn("l_sem", 2, 3, 3, 4)
    instances = semantic[:, :, :, None] + 0.9 * drawn("l_ins", 2, 3, 3, 2, 4)
    student = output(2 * drawn("l_logits", 2, 3, 3, 5), semantic=semantic, instances=instances)
    loss = InstanceConsistencyLoss(dims(), membership=membership)
    assert loss.valid(student).sum() == count
    assert loss(seen(student, student))[1]["valid_instances"].item() == pytest.approx(count / 36)


def test_consistency_worked_example():
    objects, teacher = tensor([1, 0], [0, 1]), tensor([0.6, 0.8], [0.8, -0.6])
    flags = tensor([1, 1], [1, 0])
    top, bottom = consistency_sums(
        *(x[None, None, None] for x in (objects, teacher, *flags)), margin=0.5
    )
    assert (top / bottom).item() == pytest.approx(-0.35, abs=1e-6)


def flagged():
    """Objects and flags the reference was run on."""
    objects, teacher = (unit(drawn(tag, 2, 3, 3, 4, 4)) for tag in ("l_obj", "l_obj_t"))
    flags = [(drawn(tag, 2, 3, 3, 4, uniform=True) > 0.4).float() for tag in ("l_v", "l_vt")]
    return objects, teacher, *flags


def test_consistency_of_seeded_tensors():
    objects, teacher, valid, teacher_valid = flagged()
    assert (valid.sum(), teacher_valid.sum()) == (42, 50)
    objects.requires_grad_()
    top, bottom = consistency_sums(objects, teacher, valid, teacher_valid, 0.5)
    assert (top / bottom).item() == pytest.approx(-0.286791, abs=1e-5)
    assert gradient_norm(top / bottom, objects) == pytest.approx(0.083736, abs=1e-5)
    top, bottom = consistency_sums(objects, teacher, 0 * valid, teacher_valid, 0.5)
    assert (top / bottom).item() == 0
    assert gradient_norm(top / bottom, objects) == 0


@given(seed=SEED, instances=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_consistency_ignores_the_order_of_instances_slots_and_clips(seed, instances):
    shape = (3, 2, 3, instances)
    objects, teacher = unit(random(2, *shape, 4, seed=seed).double())
    valid, teacher_valid = (random(2, *shape, seed=seed + 1) > 0).double()
    whole = consistency_sums(objects, teacher, valid, teacher_valid, 0.5)
    generator = torch.Generator().manual_seed(seed)
    one, other = (torch.randperm(instances, generator=generator) for _ in range(2))
    slots, clips = torch.randperm(3, generator=generator), torch.randperm(3, generator=generator)
    moved = (
        objects[..., one, :],
        teacher[..., other, :],
        valid[..., one],
        teacher_valid[..., other],
    )
    torch.testing.assert_close(consistency_sums(*moved, 0.5), whole)
    moved = tuple(x[clips][:, :, slots] for x in (objects, teacher, valid, teacher_valid))
    torch.testing.assert_close(consistency_sums(*moved, 0.5), whole)
    parts = [
        consistency_sums(*(x[part] for x in (objects, teacher, valid, teacher_valid)), 0.5)
        for part in (slice(1), slice(1, 3))
    ]
    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_consistency_is_its_smallest_where_teacher_and_student_agree():
    objects = torch.eye(4).expand(2, 3, 5, 4, 4)
    valid = torch.ones(2, 3, 5, 4)
    top, bottom = consistency_sums(objects, objects[..., [2, 0, 1, 3], :], valid, valid, 0.5)
    assert (top / bottom).item() == pytest.approx(-1)


def two_level(seed, clips=2):
    semantic = random(clips, 2, 3, 8, seed=seed)
    instances = semantic[:, :, :, None] + 0.5 * random(clips, 2, 3, 2, 8, seed=seed + 1)
    logits = 2 * random(clips, 2, 3, 12, seed=seed + 2)
    return output(logits, random(clips, 2, 12, 6), semantic, instances)


def test_consistency_asks_each_model_its_own_head():
    student, teacher = two_level(0), two_level(5)
    student.levels["instance"].slots.requires_grad_()
    heads = [nn.Linear(8, 8), nn.Linear(8, 8)]
    loss = InstanceConsistencyLoss(dims())
    value, _ = loss(seen(student, teacher, *heads))
    value.backward()
    assert heads[0].weight.grad.abs().max() > 0
    assert student.levels["instance"].slots.grad.abs().max() > 0
    assert heads[1].weight.grad is None
    flags = [loss.valid(x) for x in (student, teacher)]
    objects = [
        unit(head(x.levels["instance"].slots.unflatten(2, (3, 2))))
        for head, x in zip(heads, (student, teacher), strict=True)
    ]
    top, bottom = consistency_sums(*objects, *flags, 0.5)
    torch.testing.assert_close(top / bottom, value)


def test_consistency_gathers_sums_not_means():
    """Two processes with unlike numbers of valid instances give what one would."""
    student, teacher = two_level(0), two_level(5)
    semantic = student.levels["semantic"]
    semantic.slots[1, :, :2] *= -1  # fewer valid instances in the second clip

    def value(part, loss, gather=lambda x: x):
        def cut(x):
            levels = {
                name: Level(*(y[part] for y in level)) for name, level in x.levels.items()
            }  # fmt: skip
            return x._replace(slots=x.slots[part], levels=levels)

        return loss(seen(cut(student), cut(teacher), gather=gather))[0]

    loss, sums = InstanceConsistencyLoss(dims()), []
    for part in (slice(1), slice(1, 2)):
        value(part, loss, lambda x: sums.append(x) or x)
    gathered = value(slice(1), loss, lambda x: torch.cat(sums))
    whole = value(slice(2), loss)
    torch.testing.assert_close(gathered, whole)
    alone = InstanceConsistencyLoss(dims(), gather=False)
    means = [value(part, alone, lambda x: 1 / 0) for part in (slice(1), slice(1, 2))]
    assert abs(torch.stack(means).mean() - whole) > 1e-4


def test_consistency_refuses():
    with pytest.raises(ConfigError, match="did you mean: strict"):
        InstanceConsistencyLoss(dims(), membership="strikt")


# --- all -------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
def test_half_precision_changes_nothing_but_its_inputs(option):
    ctx = seen(two_level(0), two_level(5))
    loss = OPTIONS[option](dims())
    value = loss(ctx)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(ctx)[0], value)
    assert value.dtype == torch.float32
