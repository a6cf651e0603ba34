"""A canonical encoder: the bytes behind every digest (DESIGN section 3, "Identity").

Digests cover fields, never a container such as a protobuf message, whose bytes may differ
between versions. Each field is `tag (1 byte) || length (u64 LE) || bytes`, so two different
sequences of fields never give the same bytes.
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import TYPE_CHECKING, Self, TypeVar

from secagg.errors import UsageError
from secagg.labels import is_label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_I64_MIN = -(1 << 63)
_I64_MAX = (1 << 63) - 1
_U64_MAX = (1 << 64) - 1
_LENGTH = struct.Struct("<Q")


class Canonical:
    """Collects fields in order; every method returns the encoder, so calls chain.

    Args:
        label: the constant of `secagg.labels` that says what is being encoded.

    Raises:
        UsageError: a label or value that has no canonical form.
    """

    __slots__ = ("_buffer", "_label")

    def __init__(self, label: bytes) -> None:
        if not is_label(label):
            raise UsageError("a digest label must be 1 to 64 printable ASCII bytes")
        self._label = label
        self._buffer = bytearray()

    def text(self, value: str) -> Self:
        """Append a string as UTF-8; strings that differ in Unicode form stay different."""
        try:
            return self._field(b"t", value.encode())
        except UnicodeEncodeError:
            raise UsageError("text with lone surrogates has no canonical form") from None

    def integer(self, value: int) -> Self:
        """Append an integer as i64 little-endian, or as u64 where i64 is too small."""
        number = int(value)
        if _I64_MIN <= number <= _I64_MAX:
            return self._field(b"i", number.to_bytes(8, "little", signed=True))
        if 0 <= number <= _U64_MAX:
            return self._field(b"u", number.to_bytes(8, "little"))
        raise UsageError("an integer outside 64 bits has no canonical form")

    def real(self, value: float) -> Self:
        """Append a finite number as f64 little-endian; -0.0 counts as 0.0."""
        number = float(value)
        if not math.isfinite(number):
            raise UsageError("infinity and NaN have no canonical form")
        return self._field(b"r", struct.pack("<d", number or 0.0))

    def data(self, value: bytes | bytearray | memoryview) -> Self:
        """Append bytes as they are."""
        return self._field(b"d", bytes(value))

    def flag(self, value: bool) -> Self:  # noqa: FBT001 - the value is what is encoded
        """Append a truth value."""
        return self._field(b"f", b"\x01" if value else b"\x00")

    def items(self, values: Sequence[T], write: Callable[[Canonical, T], object]) -> Self:
        """Append a list; `write` encodes one element, of one or more fields, at a time."""
        inner = bytearray()
        for value in values:
            element = Canonical(self._label)
            write(element, value)
            inner += _LENGTH.pack(len(element._buffer))
            inner += element._buffer
        return self._field(b"l", inner)

    def encoded(self) -> bytes:
        """Return `label || 0x00 || fields`, the bytes that are hashed."""
        return self._label + b"\x00" + bytes(self._buffer)

    def sha256(self) -> bytes:
        """Return the 32-byte SHA-256 of `encoded()`."""
        return hashlib.sha256(self.encoded()).digest()

    def _field(self, tag: bytes, content: bytes | bytearray) -> Self:
        self._buffer += tag
        self._buffer += _LENGTH.pack(len(content))
        self._buffer += content
        return self
