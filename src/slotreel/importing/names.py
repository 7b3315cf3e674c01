"""Parameter names of SlotContrast, VideoSAUR and DINOSAUR, which are one program, and ours.

One direction is enough: our model knows all its parameters, so each is asked for its published
name, and a name of the file that nobody asked for is left over.
"""

from __future__ import annotations

import re

_CORRECTOR = "processor.corrector"

# Patterns of our names (of the model, without "model.") -> the published name without ".module".
_PARTS: tuple[tuple[str, str], ...] = (
    (r"backbone\.vit\.(.+)", r"encoder.backbone.model.\1"),
    (r"projector\.(layers\..+)", r"encoder.output_transform.\1"),
    (r"initializer\.(slots|mean|log_std)", r"initializer.\1"),
    (r"grouper\.norm_tokens\.(\w+)", rf"{_CORRECTOR}.norm_features.\1"),
    (r"grouper\.norm_slots\.(\w+)", rf"{_CORRECTOR}.norm_slots.\1"),
    (r"grouper\.to_key\.weight", rf"{_CORRECTOR}.to_k.weight"),
    (r"grouper\.to_value\.weight", rf"{_CORRECTOR}.to_v.weight"),
    (r"grouper\.to_query\.weight", rf"{_CORRECTOR}.to_q.weight"),
    (r"grouper\.gru\.(\w+)", rf"{_CORRECTOR}.gru.\1"),
    (r"grouper\.norm_mlp\.(\w+)", rf"{_CORRECTOR}.mlp.layers.0.\1"),
    (r"grouper\.mlp\.0\.(\w+)", rf"{_CORRECTOR}.mlp.layers.1.\1"),
    (r"grouper\.mlp\.2\.(\w+)", rf"{_CORRECTOR}.mlp.layers.3.\1"),
    (r"decoder\.position", r"decoder.pos_emb"),
    (r"decoder\.norm_memory\.(\w+)", r"decoder.norm_memory.\1"),
    (r"decoder\.norm_key\.(\w+)", r"decoder.norm_k.\1"),
    (r"decoder\.norm_query\.(\w+)", r"decoder.norm_q.\1"),
    (r"decoder\.to_key\.weight", r"decoder.to_k.weight"),
    (r"decoder\.to_query\.weight", r"decoder.to_q.weight"),
    (r"decoder\.output\.(\w+)", r"decoder.output_transform.\1"),
)
# Our transformer block -> theirs.
_BLOCK = {
    "attention.qkv": "self_attn.qkv",
    "attention.out": "self_attn.out_proj",
    "mlp.0": "linear1",
    "mlp.2": "linear2",
    "norm_attention": "norm1",
    "norm_mlp": "norm2",
}
_BLOCKS = re.compile(
    rf"(?P<where>predictor\.blocks|decoder\.allocator)\.(?P<index>\d+)\."
    rf"(?P<part>{'|'.join(map(re.escape, _BLOCK))})\.(?P<kind>\w+)"
)
_WHERE = {
    "predictor.blocks": "processor.predictor.blocks",
    "decoder.allocator": "decoder.allocator.blocks",
}
# Layers of the two decoders' MLPs; published ones number activations too, in one row.
_LAYERS = re.compile(r"decoder\.(?P<part>first|others\.(?P<index>\d+)|readout)\.(?P<kind>\w+)")


def plain(published: str) -> str:
    """A published name as image models have it, without the wrappers over time of video models."""
    published = published.removeprefix("module.")  # of a model wrapped for several processes
    return re.sub(r"^(encoder|processor|decoder|target_encoder)\.module\.", r"\1.", published)


def published_name(ours: str, num_layers: int, mixer: bool) -> str:
    """The published name, see ``plain``, of a parameter of a slot model.

    Args:
        ours: name in the ``SlotVideoModel``.
        num_layers: of the decoder's MLP.
        mixer: whether the decoder is VideoSAUR's, which has another name for that MLP.

    Raises:
        KeyError: the published program has no such parameter.
    """
    if block := _BLOCKS.fullmatch(ours):
        where, part = _WHERE[block["where"]], _BLOCK[block["part"]]
        return f"{where}.{block['index']}.{part}.{block['kind']}"
    if layer := _LAYERS.fullmatch(ours):
        last = 2 * num_layers
        inner = 0 if layer["part"] == "first" else int(layer["index"] or last - 2) + 2
        return f"decoder.{'renderer' if mixer else 'mlp'}.layers.{inner}.{layer['kind']}"
    for pattern, theirs in _PARTS:
        if match := re.fullmatch(pattern, ours):
            return match.expand(theirs)
    raise KeyError(ours)


def published_shape(name: str, shape: tuple[int, ...], mixer: bool) -> tuple[int, ...]:
    """The published shape of our parameter of a published name; the same values in the same order.

    Only positions differ: the MLP decoder's table has one more axis, for slots.
    """
    return (1, *shape) if name == "decoder.pos_emb" and not mixer else shape
