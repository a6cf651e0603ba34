"""Means on their way to clients, in parts that stay within a bound of memory however many clients download."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from coordinator.contracts import BlobStore

DOWNLOAD_BYTES: Final = 16 * 1024 * 1024
"""Of all parts together: a caller that does not read holds the one that waits for it. Beyond it each has the least length."""
LEAST_PART_BYTES: Final = 64 * 1024
"""However many download at a time; the waiting room bounds their number."""
MOST_PART_BYTES: Final = 1024 * 1024
"""A part costs both sides much the same whatever its length: a mean of 4 MB in parts of 64 KiB takes half as long again."""
_SHARE_OF_THE_REST: Final = 16
"""So n downloads have parts of 1/(n + 15) of the bound, once each has had its turn."""
_READERS: Final = 4

Read = Callable[[int], Awaitable[bytes]]


def part_bytes(held: int) -> int:
    """Return the length of the next part while so many bytes are held in others."""
    return min(max((DOWNLOAD_BYTES - held) // _SHARE_OF_THE_REST, LEAST_PART_BYTES), MOST_PART_BYTES)


class Downloads:
    """Reads blobs for callers.

    Args:
        blobs: where they lie.

    Attributes:
        held: bytes of all parts that are being read or were handed out last.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.held = 0
        # Of their own: downloads that wait for a slow bucket keep nobody from the database.
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="download")

    @contextmanager
    def begin(self, name: str) -> Iterator[Read]:
        """Lend what reads the part of a blob that begins at an offset: empty at its end."""
        own = 0

        async def read(offset: int) -> bytes:
            nonlocal own
            self.held -= own
            own = part_bytes(self.held)
            self.held += own
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, self._blobs.read, name, offset, own)

        try:
            yield read
        finally:
            self.held -= own
