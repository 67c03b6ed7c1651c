"""Feast's storage format: entity keys (version 3) and value messages, read and written without Feast.

Layouts: feast/infra/key_encoding_utils.py and protos/feast/types/Value.proto of Feast 0.67, against
which the tests compare every function here. Only what this project stores is accepted; any other type
is a ValueError, never a guess.
"""

from __future__ import annotations

import struct

import numpy as np

_STRING, _INT64 = 2, 4  # ValueType


def entity_key(join_key: str, value: int) -> bytes:
    """The serialised entity key (version 3) of one int64 join key."""
    name = join_key.encode()
    head = struct.pack("<III", 1, _STRING, len(name))
    return head + name + struct.pack("<IIq", _INT64, 8, value)


def decode_value(blob: bytes) -> np.ndarray | float | int | None:
    """A stored value: a list of int64, a float, a double or an int64; None for null or unset."""
    if not blob:
        return None
    tag, at = _varint(blob, 0)
    if tag == (14 << 3 | 2):  # int64_list_val
        size, at = _varint(blob, at)
        _expect(at + size == len(blob), blob)
        return _int64_list(blob[at:])
    if tag == (6 << 3 | 5):  # float_val
        _expect(len(blob) == at + 4, blob)
        return struct.unpack_from("<f", blob, at)[0]
    if tag == (5 << 3 | 1):  # double_val
        _expect(len(blob) == at + 8, blob)
        return struct.unpack_from("<d", blob, at)[0]
    if tag in (4 << 3, 3 << 3):  # int64_val, int32_val
        value, at = _varint(blob, at)
        _expect(at == len(blob), blob)
        return value - (1 << 64) if value >= 1 << 63 else value
    if tag == (19 << 3 | 0):  # null_val
        return None
    raise ValueError(f"stored value of an unexpected type (tag {tag}): {blob[:16].hex()}")


def encode_int64_list(values: np.ndarray) -> bytes:
    """The value message of a list of int64; the inverse of decode_value."""
    packed = _pack(np.ascontiguousarray(values, dtype=np.int64))
    inner = b"\x0a" + _length(len(packed)) + packed if len(packed) else b""
    return b"\x72" + _length(len(inner)) + inner


def decode_timestamp(blob: bytes) -> int:
    """A protobuf Timestamp message as microseconds since the epoch."""
    seconds = nanos = at = 0
    while at < len(blob):
        tag, at = _varint(blob, at)
        value, at = _varint(blob, at)
        _expect(tag in (8, 16), blob)
        value = value - (1 << 64) if value >= 1 << 63 else value
        seconds, nanos = (value, nanos) if tag == 8 else (seconds, value)
    return seconds * 1_000_000 + nanos // 1_000


def _int64_list(blob: bytes) -> np.ndarray:
    if not blob:
        return np.empty(0, dtype=np.int64)
    _expect(blob[0] == 0x0A, blob)  # field 1, packed
    size, at = _varint(blob, 1)
    _expect(at + size == len(blob), blob)
    return _unpack(np.frombuffer(blob, dtype=np.uint8, offset=at))


def _unpack(raw: np.ndarray) -> np.ndarray:
    """All varints of a packed field at once: each byte gives 7 bits, the last of a number is below 128."""
    last = raw < 128
    ends = np.flatnonzero(last)
    _expect(len(ends) > 0 and bool(last[-1]), b"")
    width = int(ends[0]) + 1
    if len(ends) * width == len(raw) and width <= 9 and bool(last[width - 1 :: width].all()):
        # all of one length, as times are: a plain table of digits
        digits = (raw.reshape(-1, width) & 127).astype(np.int64)
        return digits @ (np.int64(1) << (np.arange(width, dtype=np.int64) * 7))
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    _expect(int(lengths.max()) <= 10, b"")
    shifts = (np.arange(len(raw)) - np.repeat(starts, lengths)) * 7
    parts = (raw & 127).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(parts, starts).view(np.int64)


def _pack(values: np.ndarray) -> bytes:
    rest = values.view(np.uint64)
    digits = rest[:, None] >> (np.arange(10, dtype=np.uint64) * np.uint64(7))
    used = np.maximum((digits != 0).sum(axis=1), 1)
    raw = (digits & np.uint64(127)).astype(np.uint8)
    raw[np.arange(10) < (used - 1)[:, None]] |= 128
    return raw[np.arange(10) < used[:, None]].tobytes()


def _length(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _varint(blob: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(blob) or shift > 63:
            raise ValueError("a stored value is cut short")
        byte = blob[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _expect(holds: bool, blob: bytes) -> None:
    if not holds:
        raise ValueError(f"a stored value is malformed: {blob[:16].hex()}")
