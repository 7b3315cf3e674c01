"""Small inputs with closed-form weights, and what the published programs make of them.

Numbers were printed to six digits: an error below 1e-6 is the rounding of print.
Source: released code of SlotContrast (arXiv:2412.14295) and VideoSAUR (arXiv:2306.04829), run on
these inputs.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from slotreel.decoders.mlp import MLPDecoder
from slotreel.groupers.slot_attention import SlotAttention
from slotreel.layers.transformer import TransformerBlock
from slotreel.losses.feature_similarity import FeatureSimilarityLoss, similarity_target
from slotreel.losses.slot_contrast import SlotContrastLoss
from slotreel.predictors.transformer import TransformerPredictor
from slotreel.training.optim import ExponentialHalving
from slotreel.types import DecoderOutput, FrameFeatures, Target
from tests.parity.row import Row, printed
from tests.parts.closed_forms import context, dims, fill, group, reading, wave


def slot_attention(rounds: int, output: str, **arguments: str) -> Tensor:
    """Slots or masks of one frame: two slots of width 4, three tokens of width 3."""
    shape = dims(slot=4, num_slots=2)
    g = reading(SlotAttention(shape, hidden_dim=5, num_iters_first=rounds, **arguments), 3)
    fill(
        g.to_key.weight, g.to_value.weight, g.to_query.weight,
        g.gru.weight_ih, g.gru.weight_hh, g.gru.bias_ih, g.gru.bias_hh,
        g.norm_mlp, g.mlp[0].weight, g.mlp[0].bias, g.mlp[2].weight, g.mlp[2].bias,
        g.norm_tokens, g.norm_slots,
    )  # fmt: skip
    out: Tensor = getattr(group(g, wave((1, 2, 4), 0, 1), wave((1, 3, 3), 1, 2)), output)
    return out


def fill_block(block: TransformerBlock) -> TransformerBlock:
    fill(
        block.attention.qkv.weight, block.attention.qkv.bias,
        block.attention.out.weight, block.attention.out.bias,
        block.mlp[0].weight, block.mlp[0].bias, block.mlp[2].weight, block.mlp[2].bias,
        block.norm_attention, block.norm_mlp,
    )  # fmt: skip
    return block


def predictor(scale: str) -> Tensor:
    """Three slots of width 4 through one block of two heads."""
    part = TransformerPredictor(
        dims(slot=4), num_heads=2, hidden_dim=5, attention_scale=scale
    ).double()
    fill_block(part.blocks[0])
    return part(wave((1, 3, 4), 0, 1), None, torch.zeros(1))[0]


def mixer_block(scale: str) -> Tensor:
    """The same block as the slot mixer uses it, reading its own normalised input as memory."""
    block = fill_block(TransformerBlock(4, 2, 5, scale).double())
    x = wave((1, 3, 4), 0, 1)
    return block(x, block.norm_attention(x))


def mlp_decoder(output: str) -> Tensor:
    """Two slots of width 2, three places, two features, one hidden layer of 3."""
    shape = dims(slot=2, num_slots=2, grid=(1, 3))
    decoder = MLPDecoder(shape, {"features": Target(2, "patch")}, 3, 1).double()
    fill(
        decoder.position, decoder.first.weight, decoder.first.bias,
        decoder.readout.weight, decoder.readout.bias,
    )  # fmt: skip
    out = decoder(wave((1, 2, 2), 0, 1), (1, 3))
    return out.masks if output == "masks" else out.pred["features"]


def slot_contrast(batch: bool, softmax_over: str) -> Tensor:
    """Two clips of three frames with two slots of width 3."""
    loss = SlotContrastLoss(dims(), batch=batch, softmax_over=softmax_over)
    return loss(context(wave((2, 3, 2, 3), 0, 0.3)))[0]


KEYS = 0.3 + wave((1, 3, 3, 3), 0, 0.7)
LOGITS = wave((1, 3, 3, 3), 0.5, 1.1)


def similarity_targets() -> Tensor:
    unit = (KEYS / KEYS.norm(dim=-1, keepdim=True)).unbind(1)
    return torch.stack([similarity_target(unit[t], unit[t + 1], 0.25, 0.0) for t in range(2)])


def similarity_loss() -> Tensor:
    """One clip of three frames with three patches; the last frame predicts nothing."""
    ctx = context(torch.ones(1, 3, 2, 8), grid=(1, 3), decoder=_logits)
    student = ctx.student[0]
    features = FrameFeatures(student.features.tokens, (1, 3), KEYS)
    ctx = ctx._replace(student=(student._replace(features=features),))
    shape = dims(grid=(1, 3))._replace(key_width=3)
    return FeatureSimilarityLoss(shape, temperature=0.25)(ctx)[0]


def _logits(slots: Tensor, grid: tuple[int, int]) -> DecoderOutput:
    return DecoderOutput({"similarity": LOGITS.flatten(0, 1)}, None, grid)


def schedule(halved_at: int, *steps: int) -> list[float]:
    factor = ExponentialHalving(halved_at, warmup=2500)
    return [factor(step) for step in steps]


INVERSE = (
    "1.577337 0.526783 -2.006994 -0.852499 -0.932784 -0.621931 0.567192 1.073044 "
    "-1.201782 -1.454238 -0.875589 0.101404"
)
STANDARD = (
    "1.530140 0.661425 -2.166174 -0.760385 -1.042150 -0.484029 0.573199 0.941592 "
    "-1.186923 -1.350179 -1.027808 0.276124"
)
SLOTS = {
    1: "-0.206952 0.363516 1.127006 0.947982 -3.318609 0.777623 1.892948 1.185642",
    2: "-3.201820 0.742937 1.929405 1.219887 -3.356086 0.809780 1.821173 1.153171",
}
MASKS = {
    1: "0.334448 0.475735 0.610269 0.665552 0.524266 0.389731",
    2: "0.498653 0.495024 0.492462 0.501347 0.504976 0.507538",
}
RAW = "-0.303616 0.451261 1.237804 0.500404 -1.603964 0.442818 1.791000 1.365458"
TARGETS = (
    "0.920563 0 0.079437 0 1 0 0.072668 0 0.927332 0.918671 0 0.081329 0 1 0 0.074481 0 0.925519"
)


def rows() -> list[Row]:
    """All worked examples; what a variant is called stands in brackets."""
    out = []
    for rounds in (1, 2):
        for name, numbers in (("slots", SLOTS), ("masks", MASKS)):
            ours = partial(slot_attention, rounds, name)
            out.append(
                printed("slot_attention", f"{name}, {rounds} round(s)", numbers[rounds], ours)
            )
    raw = partial(slot_attention, 1, "slots", gru_state="raw")
    out.append(printed("slot_attention", "slots, 1 round (gru_state=raw)", RAW, raw))
    for scale, text in (("inverse", INVERSE), ("standard", STANDARD)):
        what = f"output (attention_scale={scale})"
        out.append(printed("predictor=transformer", what, text, partial(predictor, scale)))
        out.append(
            printed("decoder=slot_mixer, its block", what, text, partial(mixer_block, scale))
        )
    decoded = {
        "features": "-0.238055 0.947524 -0.163926 0.847885 -0.229495 0.906463",
        "masks": "0.390787 0.431744 0.455728 0.609213 0.568255 0.544272",
    }
    for name, text in decoded.items():
        out.append(printed("decoder=mlp", name, text, partial(mlp_decoder, name)))
    contrast = {
        (True, "earlier"): 4.290112, (False, "earlier"): 3.094242,
        (True, "later"): 9.628435, (False, "later"): 4.458872,
    }  # fmt: skip
    for (batch, over), value in contrast.items():
        what = f"loss (batch={str(batch).lower()}, softmax_over={over})"
        ours = partial(slot_contrast, batch, over)
        out.append(printed("losses=slot_contrast", what, str(value), ours))
    out.append(printed("losses=feature_similarity", "targets", TARGETS, similarity_targets))
    out.append(printed("losses=feature_similarity", "loss", "1.370062", similarity_loss))
    steps = (1250, 2500, 50000, 100000, 300000)
    text = "0.5 1 0.713418 0.5 0.120635"
    factor = partial(schedule, 100000, *steps)
    out.append(printed("optim=slotcontrast", "learning rate, halved at 100000", text, factor))
    later = partial(schedule, 300000, 0, 100000, 300000)
    text = "0 0.796789 0.5"
    out.append(printed("optim=slotcontrast", "learning rate, halved at 300000", text, later))
    return out
