"""Published programs: their configurations, and where each of our parameters is in their files."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from omegaconf import DictConfig

from slotreel.importing.names import published_name, published_shape

Shape = tuple[int, ...]
# Our name (of the model, without "model.") and shape, and the config -> theirs; KeyError if none.
Place = Callable[[str, Shape, DictConfig], tuple[str, Shape]]


class Program(NamedTuple):
    """One published program."""

    presets: tuple[str, ...]  # its configurations; each is the experiment SOURCE_PRESET
    place: Place
    unused: str = r"(?!)"  # pattern of published names that nothing depends on


def _slot_attention(ours: str, shape: Shape, cfg: DictConfig) -> tuple[str, Shape]:
    mixer = cfg.decoder["_target_"].endswith("SlotMixerDecoder")
    name = published_name(ours, cfg.decoder.num_layers, mixer)
    return name, published_shape(name, shape, mixer)


_SMTC = {
    r"backbone\.vit\.(.+)": r"encoder.\1",
    r"initializer\.slots": "slot_attention.slots_mu",
    r"grouper\.log_std": "slot_attention.slots_sigma",
    r"grouper\.fusion\.(\w+)": r"transport_proj.\1",
    r"grouper\.norm_tokens\.(\w+)": r"slot_attention.norm_input.\1",
    r"grouper\.norm_slots\.(\w+)": r"slot_attention.norm_slots.\1",
    r"grouper\.norm_mlp\.(\w+)": r"slot_attention.norm_pre_ff.\1",
    r"grouper\.to_query\.(\w+)": r"slot_attention.project_q.\1",
    r"grouper\.to_key\.(\w+)": r"slot_attention.project_k.\1",
    r"grouper\.to_value\.(\w+)": r"slot_attention.project_v.\1",
    r"grouper\.mlp\.(.+)": r"slot_attention.mlp.\1",
    r"heads\.object\.(.+)": r"mlp_slot.\1",
}


def _smtc(ours: str, shape: Shape, cfg: DictConfig) -> tuple[str, Shape]:
    for pattern, theirs in _SMTC.items():
        if match := re.fullmatch(pattern, ours):
            name = match.expand(theirs)
            if name.startswith("slot_attention.slots_"):
                return name, (1, shape[-2], 1, shape[-1])
            return name, (*shape, 1) if name == "transport_proj.weight" else shape
    raise KeyError(ours)


PROGRAMS = {
    "slotcontrast": Program(("movi_c", "movi_e", "ytvis2021"), _slot_attention),
    "videosaur": Program(("movi_c", "movi_e", "ytvis2021", "ytvis2021_dinov2"), _slot_attention),
    "dinosaur": Program(("coco",), _slot_attention),
    "smtc": Program(
        ("ytvos", "ytvos_efficient"),
        _smtc,
        # the output of the last block and the final norm, of which only keys are used
        r"encoder\.norm\.\w+|encoder\.blocks\.11\.(attn\.proj|norm2|mlp\.fc[12])\.\w+",
    ),
}
