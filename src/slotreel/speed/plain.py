"""The same mathematics as its formulas read, to measure what exact rewriting saves."""

from __future__ import annotations

import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from slotreel.decoders.mlp import MLPDecoder
from slotreel.errors import ConfigError
from slotreel.layers.channels import split_channels
from slotreel.layers.position import resize_table
from slotreel.types import DecoderOutput


class PlainMLPDecoder(MLPDecoder):
    """``MLPDecoder`` with its parameters, computed as the formula reads.

    Source: Seitzer et al. 2023 (DINOSAUR), arXiv:2209.14860, appendix on the MLP decoder.
    Differs: no.

    The first layer acts on the sum of slot and position, every slot predicts all channels of every
    patch, and the predictions are mixed afterwards. Arguments and shapes are ``MLPDecoder``'s.
    """

    def forward(
        self,
        slots: Tensor,
        grid: tuple[int, int],
        *,
        positions: Tensor | None = None,
        targets: Tensor | None = None,
        per_slot: bool = False,
    ) -> DecoderOutput:
        """Slots (B, K, D) -> predictions."""
        table = resize_table(self.position, self.trained_at, grid)
        if positions is not None:
            table = table[:, positions]
        x = slots.unsqueeze(2) + table.unsqueeze(1)  # (B, K, N', D)
        for layer in (self.first, *self.others.children()):
            if isinstance(layer, nn.Linear):
                x = F.relu(layer(x))
        each = F.linear(x, self.readout.weight, self.readout.bias)
        channels, logits = each[..., :-1], each[..., -1]
        masks = logits.softmax(dim=1)  # (B, K, N')
        pred = split_channels((masks.unsqueeze(-1) * channels).sum(dim=1), self.readout.widths)
        own = split_channels(channels, self.readout.widths) if per_slot else None
        return DecoderOutput(pred, masks, grid, own)


def plain(cfg: DictConfig) -> DictConfig:
    """The configuration with the plain decoder, in float32, its optimizer not fused.

    Raises:
        ConfigError: another decoder than ``mlp``: it has no plain form here.
    """
    target = OmegaConf.select(cfg, "decoder._target_")
    if target != f"{MLPDecoder.__module__}.{MLPDecoder.__name__}":
        raise ConfigError(
            f"benchmark.baseline=true has a plain form of decoder=mlp, not of {target}; "
            "type decoder=mlp or benchmark.baseline=false"
        )
    changes = {
        "decoder": {"_target_": f"{__name__}.{PlainMLPDecoder.__name__}"},
        "optim": {"optimizer": {"fused": False}},
        "trainer": {"precision": "fp32"},
    }
    own = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    merged = OmegaConf.merge(own, changes)
    assert isinstance(merged, DictConfig)
    return merged
