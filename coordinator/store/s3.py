"""Blobs in an S3-compatible bucket.

A blob that was written is one object, ``NAME/.whole``. A blob that grows is one object for each part that was appended,
``NAME/.part-OFFSET``; its bytes are the parts that follow each other from 0 on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from coordinator.store.bucket import Bucket
from coordinator.store.names import parts_of
from coordinator.store.segments import Segment, SegmentFile, total
from secagg.errors import ConflictError, NotFoundError, UsageError

_WHOLE: Final = ".whole"
_GROWN: Final = ".part-"
_DIGITS: Final = 20
_COMPARED_BYTES: Final = 1024**2


class S3BlobStore:
    """A :class:`~coordinator.contracts.BlobStore` in a bucket; several processes may use it.

    One task appends to a blob at a time, and never to one that was written. What was appended is as safe as the bucket, with
    or without :meth:`sync`. Names may stand where others' prefixes are.

    Args:
        url: ``s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=NAME``; prefix, endpoint and region may be left out.

    Raises:
        ConfigError: the URL cannot be used.
        StorageError: the bucket cannot be reached, or does not let us in.
    """

    def __init__(self, url: str) -> None:
        self._bucket = Bucket(url)
        self._bucket.end_abandoned_uploads()

    def write(self, name: str, parts: Iterable[bytes]) -> int:
        """Store a whole blob in one step, replacing what was there; return its bytes."""
        prefix = _prefix(name)
        size = self._bucket.put(prefix + _WHOLE, parts)
        # The whole counts from here on; what was appended before is no part of it.
        self._bucket.delete(key for key, _ in self._bucket.objects(prefix + _GROWN))
        return size

    def append(self, name: str, offset: int, data: bytes | memoryview) -> int:
        """Add bytes at the end, return the new size; a repeat is harmless."""
        given = memoryview(data).cast("B")
        segments = self._segments(name)
        size = total(segments)
        if not 0 <= offset <= size:
            raise UsageError(
                f"{name} has {size} bytes, so nothing can be added at {offset}", next_step=f"Go on at {size}"
            )
        known = min(size - offset, given.nbytes)
        self._require_same(name, segments, offset, given[:known])
        fresh = given[known:]
        if not fresh.nbytes:
            return size
        if segments and segments[0].key.endswith(_WHOLE):
            raise UsageError(f"{name} was written whole, so nothing can be added", next_step="Write it again")
        if not self._bucket.put_new(f"{_prefix(name)}{_GROWN}{size:0{_DIGITS}d}", fresh):
            # Another call of the same bytes was faster; what it stored is compared like any other.
            return self._append_after_another(name, offset, given)
        return size + fresh.nbytes

    def sync(self, name: str) -> None:
        """Do nothing but look: what was appended is stored."""
        self._found(name)

    def size(self, name: str) -> int:
        """Return the bytes of a blob; 0 where there is none."""
        return total(self._segments(name))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``offset`` on."""
        if offset < 0 or length < 0:
            raise UsageError("offset and length are 0 or more")
        return self._read(self._found(name), offset, length)

    def open(self, name: str) -> BinaryIO:
        """Open a blob as it is now for reading, with seeks but no file to map; the caller closes it."""
        return SegmentFile(self._found(name), self._bucket.get).buffered()

    def names(self, prefix: str) -> list[str]:
        """Return the names of the blobs beneath a prefix, sorted."""
        keys = self._bucket.objects(_prefix(prefix) if prefix else "")
        return sorted({key.rpartition("/")[0] for key, _ in keys})

    def keep_only(self, prefix: str, name: str) -> None:
        """Delete every blob beneath a prefix but one; what is half written is no object."""
        kept = _prefix(name)
        self._bucket.delete(key for key, _ in self._bucket.objects(_prefix(prefix)) if not key.startswith(kept))

    def delete_prefix(self, prefix: str) -> None:
        """Delete the blob of that name and every blob beneath it."""
        self._bucket.delete(key for key, _ in self._bucket.objects(_prefix(prefix)))

    def _segments(self, name: str) -> list[Segment]:
        return _in_order(self._bucket.objects(_prefix(name) + "."), _prefix(name))

    def _found(self, name: str) -> list[Segment]:
        segments = self._segments(name)
        if not segments:
            raise NotFoundError(f"there is no blob {name}")
        return segments

    def _read(self, segments: list[Segment], offset: int, length: int) -> bytes:
        with SegmentFile(segments, self._bucket.get) as file:
            file.seek(min(offset, total(segments)))
            return b"".join(_pieces(file, length))

    def _require_same(self, name: str, segments: list[Segment], offset: int, data: memoryview) -> None:
        for start in range(0, data.nbytes, _COMPARED_BYTES):
            piece = data[start : start + _COMPARED_BYTES]
            if self._read(segments, offset + start, piece.nbytes) != piece:
                raise ConflictError(f"{name} holds other bytes at {offset}")

    def _append_after_another(self, name: str, offset: int, data: memoryview) -> int:
        segments = self._segments(name)
        known = min(max(total(segments) - offset, 0), data.nbytes)
        self._require_same(name, segments, offset, data[:known])
        if known < data.nbytes:
            raise ConflictError(
                f"{name} is appended to by another task", next_step=f"Ask for its size, and go on at {total(segments)}"
            )
        return total(segments)


def _prefix(name: str) -> str:
    return "/".join(parts_of(name)) + "/"


def _in_order(objects: Iterable[tuple[str, int]], prefix: str) -> list[Segment]:
    """Return the segments of one blob, from byte 0 on without a gap."""
    segments: list[Segment] = []
    for key, size in objects:
        if key == prefix + _WHOLE:
            return [Segment(key=key, start=0, size=size)]
        if key == f"{prefix}{_GROWN}{total(segments):0{_DIGITS}d}":
            segments.append(Segment(key=key, start=total(segments), size=size))
    return segments


def _pieces(file: SegmentFile, length: int) -> Iterator[bytes]:
    while length > 0 and (piece := file.read(length)):
        length -= len(piece)
        yield piece
