"""The protobuf messages that TenSEAL wraps around SEAL's objects, read and written by hand.

Only `CKKSVectorProto` and the public part of `TenSEALContextProto`. Readers bound every count,
copy no payload and raise `FormatError` and nothing else; unknown and repeated fields are refused.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from he.errors import FormatError

_VARINT, _FIXED64, _BYTES = 0, 1, 2
_AUTO_RELIN_RESCALE_MOD_SWITCH: Final = 7
_DOUBLE: Final = struct.Struct("<d")
_MAX_VARINT_BYTES: Final = 10

Field = tuple[int, int | float | memoryview]


@dataclass(frozen=True, kw_only=True)
class VectorBytes:
    """A `CKKSVector`: values per chunk, one SEAL ciphertext per chunk, the scale."""

    sizes: tuple[int, ...]
    ciphertexts: tuple[bytes | memoryview, ...]
    scale: float


@dataclass(frozen=True, kw_only=True)
class ContextBytes:
    """A public context: SEAL encryption parameters, SEAL public key, global scale."""

    encryption_parameters: bytes | memoryview
    public_key: bytes | memoryview
    scale: float


def read_vector(data: bytes | memoryview, *, max_chunks: int) -> VectorBytes:
    """Split a serialised `CKKSVector` of at most `max_chunks` ciphertexts."""
    sizes: list[int] = []
    ciphertexts: list[memoryview] = []
    scale: float | None = None
    for number, value in _fields(memoryview(data)):
        match number, value:
            case 1, int():
                sizes.append(value)
            case 1, memoryview():
                sizes.extend(_packed(value, max_chunks))
            case 2, memoryview():
                ciphertexts.append(value)
            case 3, float() if scale is None:
                scale = value
            case _:
                raise FormatError(f"unexpected field {number} in a CKKSVector")
        if max(len(sizes), len(ciphertexts)) > max_chunks:
            raise FormatError(f"more than {max_chunks} chunks")
    if scale is None or len(sizes) != len(ciphertexts):
        raise FormatError("a CKKSVector needs a scale and one size for each ciphertext")
    return VectorBytes(sizes=tuple(sizes), ciphertexts=tuple(ciphertexts), scale=_sound(scale))


def write_vector(vector: VectorBytes) -> bytes:
    """Serialise in the order that TenSEAL itself writes."""
    packed = b"".join(map(_varint, vector.sizes))
    parts = [_bytes_field(1, packed)]
    parts.extend(_bytes_field(2, ciphertext) for ciphertext in vector.ciphertexts)
    return b"".join([*parts, _double_field(3, vector.scale)])


def read_context(data: bytes | memoryview) -> ContextBytes:
    """Split a public context; one that carries a secret key or evaluation keys is refused."""
    outer = _single_fields(memoryview(data))
    parameters, public = outer.pop(1, None), outer.pop(2, None)
    if outer or not isinstance(parameters, memoryview) or not isinstance(public, memoryview):
        raise FormatError("not a public context: parameters and public part, nothing else")
    inner = _single_fields(public)
    inner.pop(2, None)  # TenSEAL's flags for operations that we never use
    key, scale = inner.pop(1, None), inner.pop(3, None)
    if inner or not isinstance(key, memoryview) or not isinstance(scale, float):
        raise FormatError("public part needs a public key and a scale, nothing else")
    return ContextBytes(encryption_parameters=parameters, public_key=key, scale=_sound(scale))


def write_context(context: ContextBytes) -> bytes:
    """Serialise a public context that `tenseal.context_from` loads."""
    flags = _varint(2 << 3 | _VARINT) + _varint(_AUTO_RELIN_RESCALE_MOD_SWITCH)
    public = _bytes_field(1, context.public_key) + flags + _double_field(3, context.scale)
    return _bytes_field(1, context.encryption_parameters) + _bytes_field(2, public)


def _sound(scale: float) -> float:
    if not (math.isfinite(scale) and scale > 0):
        raise FormatError(f"scale is {scale!r}")
    return scale


def _single_fields(data: memoryview) -> dict[int, int | float | memoryview]:
    fields: dict[int, int | float | memoryview] = {}
    for number, value in _fields(data):
        if number in fields:
            raise FormatError(f"field {number} stands twice")
        fields[number] = value
    return fields


def _fields(data: memoryview) -> Iterator[Field]:
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
        elif kind == _FIXED64:
            yield number, _DOUBLE.unpack(_take(data, position, 8))[0]
            position += 8
        elif kind == _BYTES:
            length, position = _read_varint(data, position)
            yield number, _take(data, position, length)
            position += length
        else:
            raise FormatError(f"wire type {kind} in field {number}")


def _take(data: memoryview, position: int, length: int) -> memoryview:
    if length > len(data) - position:
        raise FormatError(f"field of {length} bytes where {len(data) - position} are left")
    return data[position : position + length]


def _packed(data: memoryview, most: int) -> list[int]:
    values: list[int] = []
    position = 0
    while position < len(data):
        if len(values) == most:
            raise FormatError(f"more than {most} chunks")
        value, position = _read_varint(data, position)
        values.append(value)
    return values


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise FormatError("varint is cut or too long")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_field(number: int, payload: Sequence[int]) -> bytes:
    return b"".join([_varint(number << 3 | _BYTES), _varint(len(payload)), bytes(payload)])


def _double_field(number: int, value: float) -> bytes:
    return _varint(number << 3 | _FIXED64) + _DOUBLE.pack(value)
