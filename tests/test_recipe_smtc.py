"""The two SMTC experiments compose to the released recipe, value by value, and to its sizes."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import build_objective, make
from slotreel.objective import SlotObjective
from slotreel.optimizing import trainable_sometime
from slotreel.training.optim import Optimizer, phases_begun
from tests import running

SHARED: dict[str, Any] = {
    "image_size": 256, "clip_length": 4, "frame_stride": 4, "clip_starts": "centred",
    "num_slots": 16, "slot_dim": 384, "grouper.num_instances": 4, "grouper.num_iters": 3,
    "grouper.first_reference": "wrap", "grouper.instances": "detached",
    "grouper.gradient": "last", "grouper.gate_threshold": 0.3, "grouper.draw": "per_frame",
    "model.ema": 0.999, "model.ema_keeps": ["backbone.*"], "initializer.initial_std": 1.0,
    "backbone.feature": "keys", "backbone.position_resize": "offset", "backbone.frozen": False,
    "backbone.model_args.drop_path_rate": 0.1, "trainer.precision": "fp32",
    "trainer.save_every": 500, "optim.clip.max": None, "losses.slot_divergence.weight": 1.0,
    "losses.semantic_transport.weight": 1.0, "losses.instance_consistency.weight": 1.0,
    "losses.semantic_transport.num_iters": 3, "losses.semantic_transport.epsilon": 0.05,
    "losses.instance_consistency.min_cosine": 0.5, "losses.instance_consistency.min_area": 0.2,
    "losses.instance_consistency.gather": False,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "smtc_ytvos": {
        "trainer.batch_size": 512, "trainer.num_steps": 99_997, "backbone.frozen_until": 0,
        "grouper.gate": "soft", "losses.instance_consistency.membership": "strict",
    },
    "smtc_ytvos_efficient": {
        "trainer.batch_size": 128, "trainer.num_steps": 9984, "backbone.frozen_until": 3000,
        "grouper.gate": "hard_logit", "losses.instance_consistency.membership": "relaxed",
    },
}  # fmt: skip
RATES = {"smtc_ytvos": (1e-4, 1e-6), "smtc_ytvos_efficient": (2e-5, 2e-7)}
each = pytest.mark.parametrize("name", sorted(OWN))


def composed(name: str, *more: str) -> DictConfig:
    return running.composed("train", f"experiment={name}", "backbone.weights=random", *more)


@each
def test_values(name: str) -> None:
    cfg = composed(name)
    for key, wanted in (SHARED | OWN[name]).items():
        assert OmegaConf.select(cfg, key) == wanted, key


@each
def test_sizes_and_optimizer_groups(name: str) -> None:
    """Published groups hold 51, 99, 10 and 14 tensors; 3 and 7 of them never had a gradient."""
    cfg = composed(name)
    objective = build_objective(cfg)
    assert isinstance(objective, SlotObjective)
    sizes = {True: 0, False: 0}
    for parameter, tensor in objective.model.named_parameters():
        sizes[parameter.startswith("backbone")] += tensor.numel()
    unused = 384 * 384 + 384 + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    assert sizes == {True: 21_665_664 - unused, False: 1_443_456}
    groups = {
        key: {**group, "schedule": make(group.schedule)()}
        for key, group in cfg.optim.groups.items()
    }
    named = trainable_sometime(objective)
    optimizer = Optimizer(named, make(cfg.optim.optimizer), groups, cfg.optim.clip)
    counts = [len(group["params"]) for group in optimizer.torch.param_groups]
    assert counts == [99 - 7, 51 - 3, 14, 10]
    base, encoder = RATES[name]
    for step, share in ((0, 1.0), (cfg.trainer.num_steps // 2, 0.55), (cfg.trainer.num_steps, 0.1)):
        rates = optimizer.set_step(step)
        assert rates["matrices"] == rates["vectors"] == pytest.approx(base * share, rel=1e-3)
        assert rates["backbone"] == pytest.approx(encoder * share, rel=1e-3)
    decay = [group["weight_decay"] for group in optimizer.torch.param_groups]
    assert decay == [0.0, 0.1, 0.0, 0.1]
    vectors = [p for i in (0, 2) for p in optimizer.torch.param_groups[i]["params"]]
    assert all(p.ndim == 1 for p in vectors)
    begun = phases_begun(objective.phases(), OWN[name]["backbone.frozen_until"])
    assert [phase.from_step for phase in begun] in ([], [0, 3000])


@each
def test_it_trains_two_steps_and_is_scored(name: str, tmp_path_factory: Any) -> None:
    """The recipe on generated videos, smaller in every way that its code does not see."""
    directory = running.train(
        tmp_path_factory.mktemp(name) / "run",
        f"experiment={name}", "dataset=moving_shapes", "validate=moving_shapes",
        "backbone.weights=random", "+backbone.model_args.depth=2", "frame_stride=1",
        "clip_starts=any", "image_size=64", "num_slots=4", "trainer.num_steps=2",
        "trainer.batch_size=2", "trainer.num_workers=0", "backbone.frozen_until=1",
        "dataset.source.num_videos=4", "validate.moving_shapes.data.num_videos=1",
        "trainer.trivial_rows=false", "logger=none",
        tiny=False,
    )  # fmt: skip
    rows = running.metrics(directory)
    assert 0 <= rows[2]["val/moving_shapes/discovery/mbo_video"] <= 1
