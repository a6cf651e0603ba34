"""Packing of b-bit values without a gap between them: value i is bits b·i to b·i + b - 1 of the bytes.

Bits count from the least significant of the first byte. Chunks of a multiple of 8 values fill
whole bytes, so they pack on their own and concatenate. The work is done on the smallest group of
values that fills whole 32-bit words, lane by lane.

Source: docs/protocol.md, section "Masking".
"""

from math import gcd
from typing import Final

import numpy as np
import numpy.typing as npt

from secagg.errors import MessageError, UsageError

Values = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

MAX_BITS: Final = 32
BLOCK_VALUES: Final = 1 << 17
"""So many values are packed at a time: lanes and words together stay in the second-level cache."""

_WORD_BITS: Final = 32


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` values of `bits` bits take. Raises `UsageError` on impossible numbers."""
    if not 1 <= bits <= MAX_BITS:
        raise UsageError(f"values are packed to 1 to {MAX_BITS} bits, not {bits}")
    if count < 0:
        raise UsageError(f"there are no {count} values")
    return (count * bits + 7) // 8


def pack(values: Values, bits: int) -> bytes:
    """Pack uint32 (n,) to exactly `bits` bits each; the last byte is filled up with zeros.

    Raises:
        UsageError: bits outside 1 to 32, another kind of array, or a value of 2^bits or more.
    """
    size = packed_bytes(values.size, bits)
    _check_values(values, bits)
    if bits in _WHOLE:
        return values.astype(_WHOLE[bits]).tobytes()
    whole = len(values) - len(values) % _group(bits)
    if whole == len(values):
        return _words_of(values, bits).tobytes()
    tail = np.zeros(_group(bits), dtype=np.uint32)
    tail[: len(values) - whole] = values[whole:]
    packed = _words_of(values[:whole], bits).tobytes() + _words_of(tail, bits).tobytes()
    return packed[:size]


def unpack(data: bytes | memoryview, bits: int, count: int) -> Values:
    """Return `count` values, uint32 (count,), its own memory.

    Raises:
        MessageError: data of another length than `packed_bytes`, or padding that is not zero.
        UsageError: impossible bits or count.
    """
    raw = np.frombuffer(data, dtype=np.uint8)
    _check_packed(raw, bits, count)
    if bits in _WHOLE:
        return raw.view(_WHOLE[bits]).astype(np.uint32)
    group = _group(bits)
    values = np.empty(count + -count % group, dtype=np.uint32)
    whole = count // group * group
    tail = np.zeros(packed_bytes(len(values) - whole, bits), dtype=np.uint8)
    tail[: len(raw) - packed_bytes(whole, bits)] = raw[packed_bytes(whole, bits) :]
    _values_of(raw[: packed_bytes(whole, bits)], bits, values[:whole])
    _values_of(tail, bits, values[whole:])
    return values[:count]


_WHOLE: Final = {8: "<u1", 16: "<u2", 32: "<u4"}
"""Widths that numpy knows by itself."""


def _check_values(values: Values, bits: int) -> None:
    if values.dtype != np.uint32 or values.ndim != 1:
        raise UsageError(f"a vector of uint32 can be packed, not {values.ndim} dimensions of {values.dtype}")
    if values.size and int(values.max()) >> bits:
        raise UsageError(f"a value does not fit {bits} bits")


def _check_packed(raw: Bytes, bits: int, count: int) -> None:
    if len(raw) != packed_bytes(count, bits):
        raise MessageError(f"{count} values of {bits} bits take {packed_bytes(count, bits)} bytes, not {len(raw)}")
    used = count * bits % 8
    if used and raw[-1] >> used:
        raise MessageError("the bits after the last packed value are not zero")


def _group(bits: int) -> int:
    """Fewest values that fill whole 32-bit words."""
    return _WORD_BITS // gcd(bits, _WORD_BITS)


def _group_words(bits: int) -> int:
    return bits // gcd(bits, _WORD_BITS)


def _words_of(values: Values, bits: int) -> Values:
    """Pack whole groups: uint32 (g·group,) to little-endian words, (g, group·bits/32)."""
    groups = values.reshape(-1, _group(bits))
    words = np.empty((len(groups), _group_words(bits)), dtype="<u4")
    step = BLOCK_VALUES // _group(bits)
    for begin in range(0, len(groups), step):
        _pack_block(groups[begin : begin + step], bits, words[begin : begin + step])
    return words


def _values_of(raw: Bytes, bits: int, values: Values) -> None:
    """Undo `_words_of`, into `values`."""
    groups = values.reshape(-1, _group(bits))
    words = raw.view("<u4").reshape(len(groups), _group_words(bits))
    step = BLOCK_VALUES // _group(bits)
    for begin in range(0, len(groups), step):
        _unpack_block(words[begin : begin + step], bits, groups[begin : begin + step])


def _pack_block(groups: Values, bits: int, words: Values) -> None:
    """(g, group) to (g, words): each lane goes into one word, or over the border of two."""
    lanes = np.ascontiguousarray(groups.T)
    packed = np.zeros((words.shape[1], len(groups)), dtype=np.uint32)
    shifted = np.empty(len(groups), dtype=np.uint32)
    for lane, values in enumerate(lanes):
        word, shift = divmod(lane * bits, _WORD_BITS)
        np.left_shift(values, np.uint32(shift), out=shifted)
        packed[word] |= shifted
        if shift + bits > _WORD_BITS:
            np.right_shift(values, np.uint32(_WORD_BITS - shift), out=packed[word + 1])
    words[:] = packed.T


def _unpack_block(words: Values, bits: int, groups: Values) -> None:
    """(g, words) to (g, group)."""
    packed = np.ascontiguousarray(words.T, dtype=np.uint32)
    lanes = np.empty((groups.shape[1], len(groups)), dtype=np.uint32)
    shifted = np.empty(len(groups), dtype=np.uint32)
    for lane in range(len(lanes)):
        word, shift = divmod(lane * bits, _WORD_BITS)
        np.right_shift(packed[word], np.uint32(shift), out=lanes[lane])
        if shift + bits > _WORD_BITS:
            np.left_shift(packed[word + 1], np.uint32(_WORD_BITS - shift), out=shifted)
            lanes[lane] |= shifted
    lanes &= np.uint32((1 << bits) - 1)
    groups[:] = lanes.T
