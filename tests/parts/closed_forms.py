"""Weights and inputs of the worked examples, and what the part tests build with."""

import inspect
import math
from pathlib import Path

import torch
import yaml
from hydra.utils import get_class, instantiate
from torch import nn
from torch.utils._pytree import tree_map

from slotreel.noise import Noise
from slotreel.types import Batch, DecoderOutput, Dims, FrameFeatures, ModelOutput, Progress

CONF = Path(__file__).parents[2] / "conf"


def wave(shape, start, step):
    """cos(start + step * i), i the row-major index."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (start + step * index).cos().reshape(shape)


@torch.no_grad()
def fill(*parameters):
    """The j-th tensor becomes 0.5 sin(1 + i + 3 j); a LayerNorm gives its weight + 1 and bias."""
    j = 0
    for entry in parameters:
        norm = isinstance(entry, nn.LayerNorm)
        for k, parameter in enumerate((entry.weight, entry.bias) if norm else (entry,)):
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            values = 0.5 * (1 + index + 3 * j).sin() + (1 if norm and k == 0 else 0)
            parameter.copy_(values.reshape(parameter.shape))
            j += 1


def dims(slot=8, num_slots=3, grid=(3, 4), image_size=(12, 16), feature=6, clip_length=4):
    return Dims(feature, slot, num_slots, num_slots, grid, image_size, clip_length)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class GivenNoise(Noise):
    """Returns the stored draw."""

    def __init__(self, stored):
        super().__init__(0)
        self.stored = stored

    def _draw(self, kind, name, shape, like):
        assert tuple(shape) == tuple(self.stored.shape)
        return self.stored.to(like)


def assert_all_trained(part, out):
    """Every parameter gets a finite gradient, and those declared without do not."""
    out.backward()
    declared = part.without_gradient()
    for name, parameter in part.named_parameters():
        if name in declared:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def built(group, option, key=None, **facts):
    """The part a YAML names, after checking that the YAML states every knob."""
    text = (CONF / group / f"{option}.yaml").read_text()
    assert text.startswith(f"# Enable with {group}="), "the first line says how to enable it"
    cfg = yaml.safe_load(text)
    cfg = cfg[key] if key else cfg
    parameters = inspect.signature(get_class(cfg["_target_"])).parameters
    assert set(cfg) - {"_target_"} == set(parameters) - set(facts)
    return instantiate(cfg, _partial_=True, _convert_="all")(**facts)


def model_output(slots, tokens=None, grid=(3, 4)):
    b, t = slots.shape[:2]
    tokens = random(b, t, grid[0] * grid[1], 6) if tokens is None else tokens
    masks = slots.new_zeros(b, t, slots.shape[2], tokens.shape[2])
    return ModelOutput(FrameFeatures(tokens, grid), tokens, slots, slots, masks, {})


def context(slots, *, tokens=None, grid=(3, 4), video=None, decoder=None, gather=lambda x: x):
    """What a loss sees of one view."""
    from slotreel.interfaces import StepContext

    b, t = slots.shape[:2]
    video = torch.zeros(b, t, 3, 12, 16) if video is None else video
    frames = torch.zeros(b, t, dtype=torch.long)

    def decode(x, **options) -> DecoderOutput:
        return decoder(x.flatten(0, 1), grid, **options)

    return StepContext(
        batch=Batch((video,), frames, frames[:, 0]),
        student=(model_output(slots, tokens, grid),),
        teacher=None,
        decode=decode,
        heads=nn.ModuleDict(),
        tokens=None,
        progress=Progress(0, 1),
        gather=gather,
    )


def group(grouper, query, tokens, first=True):
    """One frame: query (B, K, D), tokens (B, N, D)."""
    memory, carry = grouper.prepare(
        tokens[:, None], FrameFeatures(tokens[:, None], (1, tokens.shape[1])), None
    )
    assert carry is None
    return grouper(query, tree_map(lambda x: x[:, 0], memory), first=first, noise=Noise(0))


def reading(grouper, width):
    """The same grouper on tokens of another width than its slots, as in the worked examples."""
    inner, eps = grouper.to_key.out_features, grouper.norm_tokens.eps
    grouper.norm_tokens = nn.LayerNorm(width, eps=eps)
    grouper.to_key = nn.Linear(width, inner, bias=False)
    grouper.to_value = nn.Linear(width, inner, bias=False)
    return grouper.double()
