"""The published models as equations, on a published state dict: no code of slotreel.

Names are those of the file without ``.module``. Notation as in the papers: x tokens, s slots.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


class Result(NamedTuple):
    slots: Tensor  # (T, K, D)
    attention: Tensor  # (T, K, P)
    prediction: Tensor  # (T, P, channels)
    masks: Tensor  # (T, K, P)


def forward(p: State, video: Tensor, start: Tensor, heads: int, first: int, later: int) -> Result:
    """Video (T, 3, H, W), normalised, and slots (K, D) before the first frame -> all outputs."""
    x = _project(p, _vit(p, video, heads))
    s, slots, attention = start, [], []
    for t in range(len(video)):
        s, a = _correct(p, s, x[t], first if t == 0 else later)
        slots.append(s)
        attention.append(a)
        if "processor.predictor.blocks.0.norm1.weight" in p:
            s = _block(p, "processor.predictor.blocks.0", s, s, own=True)
    decode = _mixer if "decoder.to_q.weight" in p else _mlp_decoder
    decoded = [decode(p, each) for each in slots]
    prediction, masks = (torch.stack(list(part)) for part in zip(*decoded, strict=True))
    return Result(torch.stack(slots), torch.stack(attention), prediction, masks)


def _linear(p: State, at: str, x: Tensor) -> Tensor:
    return x @ p[f"{at}.weight"].T + p.get(f"{at}.bias", torch.zeros(()))


def _norm(p: State, at: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    unit = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return unit * p[f"{at}.weight"] + p[f"{at}.bias"]


def _vit(p: State, video: Tensor, heads: int) -> Tensor:
    """Patch tokens (T, P, F) after the last block, before any final norm."""
    at = "encoder.backbone.model"
    kernel = p[f"{at}.patch_embed.proj.weight"]
    x = F.conv2d(video, kernel, p[f"{at}.patch_embed.proj.bias"], stride=kernel.shape[-1])
    grid = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    table = p[f"{at}.pos_embed"]
    side, width = math.isqrt(table.shape[1] - 1), table.shape[2]
    cells = table[:, 1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    cells = F.interpolate(cells, grid, mode="bicubic", antialias=True, align_corners=False)
    cells = cells.flatten(2).transpose(1, 2)
    cls = (p[f"{at}.cls_token"] + table[:, :1]).expand(len(x), -1, -1)
    x = torch.cat([cls, x + cells], dim=1)
    for i in range(sum(f"{at}.blocks.{i}.norm1.weight" in p for i in range(12))):
        b = f"{at}.blocks.{i}"
        q, k, v = _linear(p, f"{b}.attn.qkv", _norm(p, f"{b}.norm1", x, 1e-6)).chunk(3, dim=-1)
        scale = (width // heads) ** -0.5
        x = x + p.get(f"{b}.ls1.gamma", torch.ones(())) * _linear(
            p, f"{b}.attn.proj", _attend(q, k, v, heads, scale)
        )
        hidden = F.gelu(_linear(p, f"{b}.mlp.fc1", _norm(p, f"{b}.norm2", x, 1e-6)))
        x = x + p.get(f"{b}.ls2.gamma", torch.ones(())) * _linear(p, f"{b}.mlp.fc2", hidden)
    return x[:, 1:]


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """Attention over the second last axis, head after head."""
    out = []
    for query, key, value in zip(*(t.chunk(heads, dim=-1) for t in (q, k, v)), strict=True):
        out.append((query @ key.transpose(-1, -2) * scale).softmax(-1) @ value)
    return torch.cat(out, dim=-1)


def _project(p: State, x: Tensor) -> Tensor:
    at = "encoder.output_transform.layers"
    return _linear(p, f"{at}.3", _linear(p, f"{at}.1", _norm(p, f"{at}.0", x)).relu())


def _correct(p: State, s: Tensor, x: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    at = "processor.corrector"
    x = _norm(p, f"{at}.norm_features", x)
    k, v = _linear(p, f"{at}.to_k", x), _linear(p, f"{at}.to_v", x)
    for _ in range(rounds):
        s = _norm(p, f"{at}.norm_slots", s)
        logits = _linear(p, f"{at}.to_q", s) @ k.T * k.shape[-1] ** -0.5
        a = logits.softmax(dim=0)
        w = (a + 1e-8) / (a + 1e-8).sum(dim=1, keepdim=True)
        s = _gru(p, f"{at}.gru", w @ v, s)
        if f"{at}.mlp.layers.0.weight" in p:
            hidden = _linear(p, f"{at}.mlp.layers.1", _norm(p, f"{at}.mlp.layers.0", s)).relu()
            s = s + _linear(p, f"{at}.mlp.layers.3", hidden)
    return s, a


def _gru(p: State, at: str, u: Tensor, h: Tensor) -> Tensor:
    ir, iz, i_n = (u @ p[f"{at}.weight_ih"].T + p[f"{at}.bias_ih"]).chunk(3, dim=-1)
    hr, hz, hn = (h @ p[f"{at}.weight_hh"].T + p[f"{at}.bias_hh"]).chunk(3, dim=-1)
    r, z = (ir + hr).sigmoid(), (iz + hz).sigmoid()
    return (1 - z) * (i_n + r * hn).tanh() + z * h


def _block(p: State, at: str, x: Tensor, memory: Tensor, own: bool = False) -> Tensor:
    """Pre-norm block of 4 heads, logits multiplied by sqrt(d), memory not normalised."""
    z = _norm(p, f"{at}.norm1", x)
    weight, bias = p[f"{at}.self_attn.qkv.weight"], p[f"{at}.self_attn.qkv.bias"]
    wq, wk, wv = weight.chunk(3)
    bq, bk, bv = bias.chunk(3)
    memory = z if own else memory
    scale = (x.shape[-1] // 4) ** 0.5
    read = _attend(z @ wq.T + bq, memory @ wk.T + bk, memory @ wv.T + bv, 4, scale)
    x = x + _linear(p, f"{at}.self_attn.out_proj", read)
    hidden = _linear(p, f"{at}.linear1", _norm(p, f"{at}.norm2", x)).relu()
    return x + _linear(p, f"{at}.linear2", hidden)


def _mlp_decoder(p: State, s: Tensor) -> tuple[Tensor, Tensor]:
    y = s[:, None] + p["decoder.pos_emb"][0]  # (K, P, D)
    for layer in (0, 2, 4):
        y = _linear(p, f"decoder.mlp.layers.{layer}", y).relu()
    y = _linear(p, "decoder.mlp.layers.6", y)
    masks = y[..., -1].softmax(dim=0)
    return (masks[..., None] * y[..., :-1]).sum(0), masks


def _mixer(p: State, s: Tensor) -> tuple[Tensor, Tensor]:
    place = p["decoder.pos_emb"][0]  # (P, D)
    z, memory, i = place, _norm(p, "decoder.norm_memory", s), 0
    while f"decoder.allocator.blocks.{i}.norm1.weight" in p:
        z = _block(p, f"decoder.allocator.blocks.{i}", z, memory)
        i += 1
    q = _linear(p, "decoder.to_q", _norm(p, "decoder.norm_q", z))
    k = _linear(p, "decoder.to_k", _norm(p, "decoder.norm_k", s))
    a = (q @ k.T * q.shape[-1] ** -0.5).softmax(dim=-1)
    y, i = a @ s + place, 0
    while f"decoder.renderer.layers.{i}.weight" in p:
        y = _linear(p, f"decoder.renderer.layers.{i}", y).relu()
        i += 2
    return _linear(p, "decoder.output_transform", y), a.T
