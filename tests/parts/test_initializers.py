from pathlib import Path

import numpy as np
import pytest
import torch
from closed_forms import GivenNoise, assert_all_trained, built, dims, random
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.errors import ConfigError
from slotreel.initializers.gaussian import GaussianInit
from slotreel.initializers.kmeans import KMeansInit, mean_of_nearest, seed_centres
from slotreel.initializers.learned import FixedLearnedInit
from slotreel.noise import Noise
from slotreel.types import FrameFeatures

GOLDEN = Path(__file__).parents[1] / "data" / "slot_attention_golden.npz"


def start(initializer, tokens, noise=None):
    features = FrameFeatures(tokens[:, None], (1, tokens.shape[1]))
    return initializer(tokens, features, {}, tokens.shape[0], noise or Noise(0))


@pytest.mark.parametrize("option", ["learned", "gaussian", "kmeans"])
def test_option_builds_with_its_yaml_and_trains_all_it_has(option):
    initializer = built("initializer", option, dims=dims())
    tokens = random(2, 12, 8).requires_grad_()
    query = start(initializer, tokens)
    assert query.shape == (2, 3, 8)
    assert_all_trained(initializer, query.square().sum())
    assert (tokens.grad is not None) == (option == "kmeans")


def test_learned_is_the_same_for_every_clip_and_starts_small():
    torch.manual_seed(0)
    query = start(FixedLearnedInit(dims(slot=64, num_slots=100)), random(2, 12, 64))
    assert torch.equal(query[0], query[1])
    assert query.std().item() == pytest.approx(64**-0.5, rel=0.05)
    wide = start(FixedLearnedInit(dims(slot=64, num_slots=100), 1.0), random(2, 12, 64))
    assert wide.std().item() == pytest.approx(1.0, rel=0.05)


def test_gaussian_draws_depend_on_the_address_and_differ_between_clips():
    initializer = GaussianInit(dims())
    tokens = random(2, 12, 8)
    one, same = (start(initializer, tokens, Noise(3, "a")) for _ in range(2))
    other = start(initializer, tokens, Noise(3, "b"))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize(("per_slot", "rows"), [(False, 1), (True, 3)])
def test_gaussian_is_mean_plus_std_times_noise(per_slot, rows):
    initializer = GaussianInit(dims(), per_slot=per_slot)
    assert initializer.mean.shape == (1, rows, 8)
    with torch.no_grad():
        initializer.mean.copy_(random(1, rows, 8))
    noise = random(2, 3, 8, seed=1)
    query = start(initializer, random(2, 12, 8), GivenNoise(noise))
    torch.testing.assert_close(query, initializer.mean + 8**-0.5 * noise)


def test_gaussian_xavier_start_keeps_its_bound():
    initializer = GaussianInit(dims(slot=3000), start="xavier")
    for parameter in initializer.parameters():
        assert 0.9 * 1000**-0.5 < parameter.abs().max() <= 1000**-0.5


def test_fixed_normal_has_no_parameters():
    initializer = GaussianInit(dims(), trainable=False, initial_std=1.0)
    assert not list(initializer.parameters())
    noise = random(2, 3, 8)
    torch.testing.assert_close(start(initializer, random(2, 12, 8), GivenNoise(noise)), noise)


def test_groups_add_their_own_offsets_as_published():
    case = {
        k.split("/", 1)[1]: torch.from_numpy(v)
        for k, v in np.load(GOLDEN).items()
        if k.startswith("grouped/")
    }
    initializer = GaussianInit(dims(num_slots=5), start="xavier", groups=[2, 3]).double()
    initializer.load_state_dict(
        {k.split("/")[1]: v for k, v in case.items() if k.startswith("init/")}
    )
    query = start(initializer, case["tokens"], GivenNoise(case["noise"]))
    mean = case["init/mean"] + case["init/group_mean"][:, [0, 0, 1, 1, 1]]
    log_std = case["init/log_std"] + case["init/group_log_std"][:, [0, 0, 1, 1, 1]]
    torch.testing.assert_close(query, mean + log_std.exp() * case["noise"])
    assert_all_trained(initializer, query.square().sum())


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"groups": [1, 1]}, r"groups=\[1,2\]"),
        ({"groups": [1, 2], "per_slot": True}, "per_slot=false"),
        ({"start": "xavier", "initial_std": 1.0}, "initial_std=null"),
        ({"start": "xavie"}, "did you mean: xavier"),
        ({"trainable": False, "start": "xavier"}, "start=constant"),
        ({"initial_std": 0.0}, "above 0"),
    ],
)
def test_gaussian_refuses(arguments, advice):
    with pytest.raises(ConfigError, match=advice):
        GaussianInit(dims(), **arguments)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), num_slots=st.integers(1, 6))
def test_kmeans_finds_separated_clusters(seed, num_slots):
    generator = torch.Generator().manual_seed(seed)
    spots = 100 * torch.eye(num_slots, 8)[None] + torch.randn(2, num_slots, 8, generator=generator)
    member = torch.randperm(5 * num_slots, generator=generator) % num_slots
    tokens = spots[:, member] + 0.1 * torch.randn(2, 5 * num_slots, 8, generator=generator)
    centres = start(KMeansInit(dims(num_slots=num_slots), 3), tokens, Noise(seed))
    truth = torch.stack([tokens[:, member == k].mean(1) for k in range(num_slots)], 1)
    distance = torch.cdist(truth, centres)
    assert (distance.min(dim=2).values < 1e-3).all()
    assert (distance.min(dim=1).values < 1e-3).all()


def test_kmeans_reaches_the_worked_centres():
    points = torch.tensor([[(0, 0), (0, 1), (1, 0), (5, 5), (6, 5), (5, 7)]]).double()
    centres = start(KMeansInit(dims(slot=2, num_slots=2)), points)[0]
    centres = centres[centres[:, 0].argsort()]
    expected = torch.tensor([[1 / 3, 1 / 3], [16 / 3, 17 / 3]]).double()
    torch.testing.assert_close(centres, expected)


def test_kmeans_gradient_is_that_of_a_mean():
    tokens = torch.tensor([[[0.0], [1.0], [10.0]]], requires_grad=True)
    centres = start(KMeansInit(dims(slot=1, num_slots=2)), tokens)
    centres[0, centres[0, :, 0].argmin()].sum().backward()
    assert tokens.grad.flatten().tolist() == [0.5, 0.5, 0.0]


def test_empty_cluster_keeps_its_centre():
    points, centres = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[1.0], [50.0]]])
    assert mean_of_nearest(points, centres).flatten().tolist() == [1.0, 50.0]


def test_seeds_are_distinct_points_and_survive_identical_tokens():
    points = random(4, 6, 2)
    seeds = seed_centres(points, torch.rand(4, 6))
    assert (torch.cdist(seeds, points).min(dim=1).values == 0).all(), "each point is one seed"
    query = start(KMeansInit(dims(slot=2, num_slots=3)), torch.ones(1, 4, 2))
    assert (query == 1).all()


def test_kmeans_refuses_more_queries_than_tokens():
    with pytest.raises(ValueError, match="num_slots=2"):
        start(KMeansInit(dims()), random(1, 2, 8))
    with pytest.raises(ConfigError, match="num_iters=10"):
        KMeansInit(dims(), 0)


def test_batch_order_does_not_matter_to_kmeans():
    tokens, draws = random(3, 12, 8), torch.rand(3, 3)
    order = [2, 0, 1]
    initializer = KMeansInit(dims())
    one = start(initializer, tokens, GivenNoise(draws))
    two = start(initializer, tokens[order], GivenNoise(draws[order]))
    torch.testing.assert_close(one[order], two)
