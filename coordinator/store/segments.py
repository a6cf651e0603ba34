"""Several objects read as one file, with no more of them in memory than was asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from secagg.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES: Final = 1024**2


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Bytes ``start`` to ``start + size`` of a blob, in the object ``key``."""

    key: str
    start: int
    size: int


def total(segments: list[Segment]) -> int:
    """Return the bytes of a blob of these segments."""
    return segments[-1].start + segments[-1].size if segments else 0


class SegmentFile(io.RawIOBase):
    """Reads segments as one file.

    Args:
        segments: in order, without a gap.
        get: returns bytes of an object: ``get(key, offset, length)``; raises ``StorageError`` or ``NotFoundError``.
    """

    def __init__(self, segments: list[Segment], get: Callable[[str, int, int], bytes]) -> None:
        super().__init__()
        self._segments = segments
        self._get = get
        self._at = 0

    def buffered(self) -> BinaryIO:
        """Return this file with a buffer, so that small reads are few requests."""
        return io.BufferedReader(self, _BUFFER_BYTES)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that any byte can come next."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte; return which."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: total(self._segments)}[whence]
        if base + offset < 0:
            raise UsageError("a file has no bytes before its first")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return which byte comes next."""
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer as far as one segment goes; return the bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        for segment in self._segments:
            inside = self._at - segment.start
            if 0 <= inside < segment.size:
                length = min(view.nbytes, segment.size - inside)
                view[:length] = self._get(segment.key, inside, length)
                self._at += length
                return length
        return 0
