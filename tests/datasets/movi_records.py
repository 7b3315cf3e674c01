"""MOVi in miniature, as TensorFlow Datasets stores it; written with protobuf, not with our reader.

The message and the checksum are those of TensorFlow's documentation. Pictures are PNG, a list of
boxes per object is flat values beside row lengths, everything else is flat.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

Features = Mapping[str, Sequence[bytes] | np.ndarray]
FRAMES, SIDE = 6, 16


def _example_class() -> Any:
    """The message class of tf.train.Example, from its fields and their numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    kinds = {"bytes": field.TYPE_BYTES, "float": field.TYPE_FLOAT, "int64": field.TYPE_INT64}
    feature = descriptor_pb2.DescriptorProto(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(kinds.items(), 1):
        values = file.message_type.add(name=f"List{number}")
        values.field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
        feature.field.add(
            name=name, number=number, type=field.TYPE_MESSAGE, type_name=f".t.List{number}",
            label=field.LABEL_OPTIONAL, oneof_index=0,
        )  # fmt: skip
    file.message_type.append(feature)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".t.Feature",
        label=field.LABEL_OPTIONAL,
    )  # fmt: skip
    features.field.add(
        name="feature", number=1, type=field.TYPE_MESSAGE, type_name=".t.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )  # fmt: skip
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features", number=1, type=field.TYPE_MESSAGE, type_name=".t.Features",
        label=field.LABEL_OPTIONAL,
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = _example_class()


def serialized(features: Features) -> bytes:
    example = EXAMPLE()
    for name, values in features.items():
        feature = example.features.feature[name]
        if isinstance(values, np.ndarray):
            kind = "float" if values.dtype.kind == "f" else "int64"
            getattr(feature, kind).value.extend(values.reshape(-1).tolist())
        else:
            feature.bytes.value.extend(values)
    return bytes(example.SerializeToString())


def crc32c(content: bytes) -> int:
    """Checksum of Castagnoli, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def framed(content: bytes) -> bytes:
    """A record of a TFRecord file."""

    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def scene(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (T, H, W, 3) and ids uint8 (T, H, W): bars that move, the first one leaves."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((FRAMES, SIDE, SIDE), dtype=np.uint8)
    for t in range(FRAMES):
        for m in range(count):
            if m or t < 3:
                ids[t, 4 * m + 1 : 4 * m + 4, t : t + 6 + m] = m + 1
    colours = rng.integers(0, 256, (count + 1, 3), dtype=np.uint8)
    return colours[ids] + rng.integers(0, 8, (*ids.shape, 3), dtype=np.uint8), ids


def example(name: str, seed: int = 0, count: int = 2) -> dict[str, Sequence[bytes] | np.ndarray]:
    """Features of one video; of those that are not read, one of each kind."""
    video, ids = scene(seed, count)
    boxes, frames, lengths = [], [], []
    for m in range(count):
        seen = [t for t in range(FRAMES) if (ids[t] == m + 1).any()]
        for t in seen:
            rows, columns = np.nonzero(ids[t] == m + 1)
            boxes.append([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        frames += seen
        lengths.append(len(seen))
    visible = np.array([[(i == m + 1).sum() for i in ids] for m in range(count)])
    rows = np.array(lengths, dtype=np.int64)
    return {
        "video": [png(frame) for frame in video],
        "segmentations": [png(frame) for frame in ids],
        "forward_flow": np.full((FRAMES, SIDE, SIDE, 2), 65535, dtype=np.int64),
        "metadata/video_name": [name.encode()],
        "metadata/num_frames": np.array([FRAMES], dtype=np.int64),
        "metadata/num_instances": np.array([count], dtype=np.int64),
        "metadata/depth_range": np.array([1.0, 9.0], dtype=np.float32),
        "instances/bboxes/ragged_flat_values": np.array(boxes, dtype=np.float32) / SIDE,
        "instances/bboxes/ragged_row_lengths_0": rows,
        "instances/bbox_frames/ragged_flat_values": np.array(frames, dtype=np.int64),
        "instances/bbox_frames/ragged_row_lengths_0": rows,
        "instances/visibility": visible.astype(np.int64) * 4,  # counted in larger frames
        "instances/category": np.arange(count),
        "events/collisions/force": np.array([], dtype=np.float32),
        "background": [b"sky"],
    }


def write(folder: Path, variant: str = "c") -> Path:
    """Two shards of two training videos and one of one validation video, as downloaded."""
    folder.mkdir(parents=True)
    names = {"train": [["7", "12"], ["31", "400"]], "validation": [["55"]]}
    splits = []
    for split, shards in names.items():
        for n, shard in enumerate(shards):
            videos = [serialized(example(v, int(v), 2 + int(v) % 2)) for v in shard]
            file = f"movi_{variant}-{split}.tfrecord-{n:05d}-of-{len(shards):05d}"
            (folder / file).write_bytes(b"".join(framed(video) for video in videos))
        splits.append({"name": split, "shardLengths": [str(len(shard)) for shard in shards]})
    info = {"name": f"movi_{variant}", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text("{}")
    return folder
