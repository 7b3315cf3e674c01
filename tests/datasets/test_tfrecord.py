"""TFRecord files and tf.train.Example: what protobuf writes is read back, damage is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.data.prepare.tfrecord import parse_example, records
from slotreel.errors import DataError
from tests.datasets.movi_records import crc32c, framed, serialized

LIST = st.one_of(
    st.lists(st.binary(max_size=300)),
    st.lists(st.integers(-(2**63), 2**63 - 1)).map(lambda x: np.array(x, dtype=np.int64)),
    st.lists(st.floats(width=32, allow_nan=False)).map(lambda x: np.array(x, dtype=np.float32)),
)


@pytest.mark.parametrize(("content", "crc"), [(b"123456789", 0xE3069283), (b"\0" * 32, 0x8A9136AA)])
def test_checksum_is_castagnolis(content: bytes, crc: int) -> None:
    assert crc32c(content) == crc  # RFC 3720, B.4; ours is the writer's, compared with the reader's
    assert list(records(io.BytesIO(framed(content) * 2), "x")) == [content, content]


@given(st.dictionaries(st.text(max_size=20), LIST, max_size=5))
@settings(max_examples=50, deadline=None)
def test_messages_of_protobuf_are_read_back(features: dict[str, list[bytes] | np.ndarray]) -> None:
    found = parse_example(serialized(features), set(features), "x")
    assert found.keys() == features.keys()
    for name, values in features.items():
        assert list(found[name]) == list(values)
        if len(values) and isinstance(values, np.ndarray):
            assert found[name].dtype == values.dtype  # type: ignore[union-attr]


@given(st.binary(min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        parse_example(content, {"video"}, "x")
    with pytest.raises(DataError):
        list(records(io.BytesIO(content), "x"))


def test_numbers_stored_one_by_one_are_read_too() -> None:
    """Writers may leave a list unpacked: field 1 as a varint or four bytes each."""
    int64 = b"\x1a\x05\x08\x07\x08\x80\x01"
    floats = b"\x12\x0a" + b"".join(b"\x0d" + np.float32(x).tobytes() for x in (0.5, -2))
    entries = b"".join(
        b"\x0a" + bytes([3 + 2 + len(feature)]) + b"\x0a\x01" + name + b"\x12"
        + bytes([len(feature)]) + feature for name, feature in ((b"i", int64), (b"f", floats))
    )  # fmt: skip
    found = parse_example(b"\x0a" + bytes([len(entries)]) + entries, {"i", "f"}, "x")
    assert list(found["i"]) == [7, 128]
    assert list(found["f"]) == [0.5, -2]
