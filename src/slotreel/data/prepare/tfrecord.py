"""TFRecord files and the tf.train.Example messages in them, read without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import IO

import google_crc32c
import numpy as np

from slotreel.errors import DataError

Values = list[bytes] | np.ndarray  # the array is int64 or float32 (n,)

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8
_VARINT, _EIGHT_BYTES, _BLOCK, _FOUR_BYTES = 0, 1, 2, 5  # wire types of protocol buffers
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3  # fields of tf.train.Feature


def records(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """Records of a TFRecord file in order, each checked before it is given.

    A record is its length (uint64), a checksum of that, the bytes, and a checksum of those;
    checksums are CRC32C, rotated by 15 bits and shifted by a constant.

    Source: TensorFlow, "TFRecord and tf.train.Example", TFRecords format details.

    Args:
        stream: the file, open at its beginning; it need not be seekable.
        name: of the file, for messages.

    Raises:
        DataError: a record is cut off or differs from its checksum; names file and record, counted
            from 0.
    """
    number = 0
    while head := stream.read(_LENGTH.size + _CRC.size):
        place = f"{name}, record {number}"
        _check(head, _LENGTH.size, place)
        (length,) = _LENGTH.unpack(head[: _LENGTH.size])
        content = stream.read(length + _CRC.size)
        _check(content, length, place)
        yield content[:length]
        number += 1


def _check(content: bytes, length: int, place: str) -> None:
    """Compare ``length`` bytes with the checksum behind them."""
    if len(content) != length + _CRC.size:
        raise DataError(
            f"{place}: the file ends {length + _CRC.size - len(content)} bytes too early; "
            "download it again"
        )
    crc = google_crc32c.value(content[:length])
    masked = ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
    if masked != _CRC.unpack(content[length:])[0]:
        raise DataError(
            f"{place}: the bytes differ from their checksum (CRC32C), or this is no TFRecord file; "
            "download it again"
        )


def parse_example(record: bytes, wanted: Collection[str], place: str) -> dict[str, Values]:
    """Some features of a serialized tf.train.Example; all others are skipped unread.

    Args:
        record: the message.
        wanted: names of features.
        place: file and record, for messages.

    Returns:
        The values of each feature that is there and wanted, flat.

    Raises:
        DataError: the bytes are no such message, or a feature is not there.
    """
    found: dict[str, Values] = {}
    try:
        for features in _blocks(memoryview(record), 1):
            for entry in _blocks(features, 1):
                name = str(next(_blocks(entry, 1)), "utf-8")
                if name in wanted:
                    found[name] = _values(next(_blocks(entry, 2)))
    except (ValueError, IndexError, StopIteration, TypeError) as error:
        raise DataError(f"{place}: not a tf.train.Example message ({error!r})") from error
    lacking = sorted(set(wanted) - found.keys())
    if lacking:
        raise DataError(f"{place}: the features {', '.join(lacking)} are missing")
    return found


def _values(feature: memoryview) -> Values:
    """Values of a tf.train.Feature; one without a list is empty."""
    for kind, _, content in _fields(feature):
        if kind == _BYTES_LIST:
            return [bytes(value) for value in _blocks(_block(content), 1)]
        if kind == _FLOAT_LIST:
            packed = b"".join(bytes(_block(value)) for _, _, value in _fields(_block(content)))
            return np.frombuffer(packed, dtype="<f4").astype(np.float32)
        if kind == _INT64_LIST:
            numbers = [n for _, _, value in _fields(_block(content)) for n in _integers(value)]
            return np.array(numbers, dtype=np.uint64).astype(np.int64)
    return []


def _integers(value: int | memoryview) -> Iterator[int]:
    """Numbers of a repeated integer field, one by one or packed."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _blocks(message: memoryview, field: int) -> Iterator[memoryview]:
    """Every value of a field that holds bytes, text or a message."""
    for number, _, value in _fields(message):
        if number == field:
            yield _block(value)


def _block(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number where bytes are expected")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and value of each field of a message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield tag >> 3, kind, number
            continue
        if kind == _BLOCK:
            size, at = _varint(message, at)
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            size = 4 if kind == _FOUR_BYTES else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("a field ends behind the message")
        yield tag >> 3, kind, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Number of seven bits per byte, lowest first, and where the next field begins."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number & (1 << 64) - 1, at
