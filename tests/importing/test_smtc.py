"""SMTC's checkpoints: every tensor by its published name, and the published model's outputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from slotreel.errors import CheckpointError
from slotreel.importing.convert import import_checkpoint
from slotreel.layers.frames import normalising
from slotreel.loading import load_checkpoint
from slotreel.losses.instance_consistency import InstanceConsistencyLoss
from slotreel.noise import Noise
from slotreel.objective import SlotObjective
from slotreel.training import checkpoint
from slotreel.types import Batch, ModelOutput, Progress
from tests.parts.smtc_numbers import PUBLISHED, draw, parameter, udraw


def both(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def shapes(M: int = 256, S: int = 16, d: int = 384) -> dict[str, tuple[int, ...]]:
    """The published keys, written down by hand: 174 for M positions of the training grid."""
    found: dict[str, tuple[int, ...]] = {
        "encoder.cls_token": (1, 1, d),
        "encoder.pos_embed": (1, 197, d),
        **both("encoder.patch_embed.proj", d, 3, 16, 16),
        **both("encoder.norm", d),
        "transport_proj.weight": (d, M, 1),
        "transport_proj.bias": (d,),
        **both("mlp_slot.0", 2 * d, d),
        **both("mlp_slot.2", d, 2 * d),
        "slot_attention.slots_mu": (1, S, 1, d),
        "slot_attention.slots_sigma": (1, S, 1, d),
    }
    for i in range(12):
        block = f"encoder.blocks.{i}"
        found |= both(f"{block}.norm1", d) | both(f"{block}.norm2", d)
        found |= both(f"{block}.attn.qkv", 3 * d, d) | both(f"{block}.attn.proj", d, d)
        found |= both(f"{block}.mlp.fc1", 4 * d, d) | both(f"{block}.mlp.fc2", d, 4 * d)
    for name in ("norm_input", "norm_slots", "norm_pre_ff"):
        found |= both(f"slot_attention.{name}", d)
    for name in ("project_q", "project_k", "project_v", "mlp.0", "mlp.2"):
        found |= both(f"slot_attention.{name}", d, d)
    return found


def published(path: Path, prefix: str = "", M: int = 256, **changes: Tensor) -> Path:
    """A file in the released layout, its parameters the named draws."""
    state = {name: parameter(name, shape) for name, shape in shapes(M).items()} | changes
    content = {
        "iteration": 9500,
        "model_state_dict": {prefix + name: value for name, value in state.items()},
        "optimizer_state_dict": {},
        "loss": torch.zeros(()),
    }
    torch.save(content, path)
    return path


def test_the_layout_has_the_published_size() -> None:
    found = shapes()
    sizes = {name: math.prod(shape) for name, shape in found.items()}
    assert len(found) == 174
    assert sum(sizes.values()) == 23_109_120
    assert sum(size for name, size in sizes.items() if name.startswith("encoder")) == 21_665_664


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_has_a_place_or_is_named_as_unused(tmp_path: Path, prefix: str) -> None:
    path = published(tmp_path / "smtc.pth", prefix)
    done = import_checkpoint(path, "smtc", "ytvos_efficient", tmp_path / "out")
    assert done.step == 9500
    assert done.num_tensors + len(done.unused) == 174
    assert len(done.unused) == 10
    assert {"encoder.norm.weight", "encoder.blocks.11.mlp.fc2.bias"} <= set(done.unused)
    _, content = checkpoint.find(tmp_path / "out")
    ours = content["objective"]
    student = {k: v for k, v in ours.items() if k.startswith("model.")}
    assert len(student) == done.num_tensors
    for name, value in student.items():
        assert torch.equal(ours["ema." + name.removeprefix("model.")], value)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = published(tmp_path / "smtc.pth", M=1024)
    with pytest.raises(CheckpointError, match=r"transport_proj.weight \(384, 1024, 1\) instead of"):
        import_checkpoint(path, "smtc", "ytvos", tmp_path / "out")
    path = published(tmp_path / "more.pth", extra=torch.zeros(1))
    with pytest.raises(CheckpointError, match="left over: extra"):
        import_checkpoint(path, "smtc", "ytvos", tmp_path / "out")


# --- outputs of the whole model, image 64 x 64, B = 2, T = 4 --------------------------------


class Draws(Noise):
    """A source that gives frame t its part of one draw for all frames."""

    def __init__(self, values: Tensor, frame: int | None = None) -> None:
        super().__init__(0)
        self.values, self.number = values, frame

    def child(self, *path: object) -> Draws:
        return self

    def frame(self, number: int) -> Draws:
        return Draws(self.values, number)

    def normal(self, name: str, shape: Any, like: Tensor) -> Tensor:
        assert self.number is not None
        return self.values[:, self.number]


class GivenDropPath(nn.Module):
    """Stochastic depth by given uniform numbers."""

    def __init__(self, rate: float, uniform: Tensor) -> None:
        super().__init__()
        self.rate, self.uniform = rate, uniform

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.rate
        return x * (keep + self.uniform).floor().view(-1, 1, 1) / keep


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SlotObjective:
    """The model as imported, its teacher moved as in the example."""
    folder = tmp_path_factory.mktemp("smtc")
    path = published(folder / "smtc.pth", M=16)
    import_checkpoint(path, "smtc", "ytvos_efficient", folder / "out", overrides=["image_size=64"])
    objective = load_checkpoint(str(folder / "out")).objective
    assert isinstance(objective, SlotObjective)
    assert objective.ema is not None
    with torch.no_grad():
        for name, tensor in objective.ema.named_parameters():
            if name.startswith("backbone"):
                continue
            theirs, shape = _published(name, tuple(tensor.shape))
            tensor += 0.01 * draw(f"teacher.{theirs}", shape).reshape(tensor.shape)
    uniform = (udraw(f"drop{i}", (8,)) for i in itertools.count())
    for i, block in enumerate(objective.model.backbone.vit.blocks):  # type: ignore[union-attr,arg-type]
        for name in ("drop_path1", "drop_path2"):
            old = getattr(block, name)
            if isinstance(old, DropPath):
                assert old.drop_prob == pytest.approx(0.1 * i / 11)
                setattr(block, name, GivenDropPath(old.drop_prob or 0.0, next(uniform)))
    return objective


def _published(name: str, shape: Sequence[int]) -> tuple[str, Sequence[int]]:
    """The published name and shape of a parameter outside the backbone."""
    part, _, rest = name.partition(".")
    if part == "heads":
        return "mlp_slot." + rest.removeprefix("object."), shape
    if rest.startswith("fusion"):
        theirs = rest.replace("fusion", "transport_proj")
        return theirs, (*shape, 1) if rest.endswith("weight") else shape
    theirs, table = ("slots_mu", True) if part == "initializer" else PUBLISHED[rest]
    return f"slot_attention.{theirs}", (1, shape[-2], 1, shape[-1]) if table else shape


CLIP = (2, 4, 3, 64, 64)


def videos() -> tuple[Tensor, Tensor]:
    clip = draw("clip", (2, 1, 3, 64, 64)) + 0.3 * draw("clip_motion", CLIP)
    return clip, clip + 0.1 * draw("clip_teacher_aug", CLIP)


def eps(name: str, B: int = 2) -> Draws:
    return Draws(draw(f"eps_{name}", (B * 4, 16, 4, 384)).reshape(B, 4, 16, 4, 384))


def facts(x: Tensor) -> list[float]:
    x = x.detach()
    return [float(x.mean()), float(x.std(correction=0)), *x.flatten()[:3].tolist()]


def run(model: Any, video: Tensor, noise: Draws) -> ModelOutput:
    with normalising(model, mean=[0.0] * 3, std=[1.0] * 3):  # the example's pixels are normalised
        output: ModelOutput = model(video, {}, noise)
    return output


@pytest.mark.slow
def test_outputs_of_the_published_model(whole: SlotObjective) -> None:
    clip, aside = videos()
    whole.train()
    student = run(whole.model, clip, eps("student"))
    assert whole.ema is not None
    teacher = run(whole.ema, aside, eps("teacher"))
    semantic = student.levels["semantic"]
    assert semantic.logits is not None

    def objects(heads: nn.ModuleDict, output: ModelOutput) -> Tensor:
        found: Tensor = nn.functional.normalize(heads["object"](output.slots), dim=-1)
        return found

    wanted = {
        "logits": (semantic.logits, [-0.405368, 0.496705, -0.848669, -0.964513, -0.941273]),
        "keys": (student.features.tokens, [0.019449, 1.026832, -1.552910, 0.458186, 2.662107]),
        "semantic": (semantic.slots, [0.007651, 3.883827, 6.331535, 8.842220, -5.376163]),
        "instances": (student.slots, [-0.016568, 2.765402, 2.922266, -0.012671, -3.028951]),
        "objects": (
            objects(whole.model.heads, student),
            [-0.000966, 0.051022, 0.036391, -0.012198, 0.026587],
        ),
        "teacher": (
            objects(whole.ema.heads, teacher),
            [-0.001626, 0.051005, 0.031264, -0.069731, 0.029684],
        ),
    }
    for name, (values, numbers) in wanted.items():
        assert facts(values) == pytest.approx(numbers, abs=3e-5), name
    whole.eval()
    with torch.no_grad():
        logits = run(whole.model, clip, eps("student")).levels["semantic"].logits
    assert logits is not None
    numbers = [-0.404533, 0.491924, -0.829099, -0.946224, -0.914224]
    assert facts(logits) == pytest.approx(numbers, abs=3e-5)


@pytest.mark.slow
def test_losses_and_gradients_of_the_published_model(
    whole: SlotObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, aside = videos()
    whole.train()
    assert whole.ema is not None
    outputs = {
        id(whole.model): run(whole.model, clip, eps("student")),
        id(whole.ema): run(whole.ema, aside, eps("teacher")),
    }
    for model in (whole.model, whole.ema):
        monkeypatch.setattr(model, "forward", lambda *_, m=model: outputs[id(m)])
    batch = Batch((clip,), torch.zeros(2, 4), torch.zeros(2), teacher_view=aside)
    terms = {k: v.detach() for k, v in whole(batch, Progress(0, 1)).terms.items()}
    assert float(terms["slot_divergence"]) == pytest.approx(0.996200, abs=1e-5)
    assert float(terms["semantic_transport"]) == pytest.approx(2.693335, abs=1e-5)
    assert float(terms["instance_consistency"]) == 0

    valid = [(udraw(tag, (2, 4, 16, 4)) > 0.5).float() for tag in ("valid", "valid_t")]
    flags = iter(valid)
    monkeypatch.setattr(InstanceConsistencyLoss, "valid", lambda *_: next(flags))
    total = whole(batch, Progress(0, 1)).total
    assert float(total.detach()) == pytest.approx(3.489367, abs=1e-5)
    whole.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    model = whole.model
    norms = {
        "initializer.slots": 0.018209, "grouper.log_std": 0.0, "grouper.fusion.weight": 0.115854,
        "heads.object.0.weight": 0.079254, "grouper.to_key.weight": 0.530198,
        "grouper.to_value.weight": 0.011355,
    }  # fmt: skip
    for name, norm in norms.items():
        grad = model.get_parameter(name).grad
        assert grad is not None
        assert float(grad.norm()) == pytest.approx(norm, rel=1e-4, abs=1e-9), name


@pytest.mark.slow
def test_masks_of_the_published_model_at_another_size(whole: SlotObjective) -> None:
    whole.eval()
    with torch.no_grad():
        output = run(whole.model, draw("clip_infer", (1, 4, 3, 96, 128)), eps("infer", 1))
    semantic, instance = output.levels["semantic"], output.levels["instance"]
    assert semantic.masks.flatten()[:3].tolist() == pytest.approx(
        [0.034516, 0.034725, 0.033856], abs=2e-6
    )
    similarity = nn.functional.cosine_similarity(
        semantic.slots[:, :, :, None], instance.slots.unflatten(2, (16, 4)), dim=-1
    )
    assert similarity.flatten()[:3].tolist() == pytest.approx(
        [0.325142, 0.369513, 0.345662], abs=1e-5
    )
    assert float(similarity.mean()) == pytest.approx(0.452368, abs=1e-5)
    assert output.masks.flatten()[:3].tolist() == pytest.approx(
        [0.009032, 0.008812, 0.009058], abs=2e-6
    )
