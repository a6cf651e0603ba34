"""The streams in which clients upload, whatever the protocol: none is waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from coordinator.rounds.live import LiveRound
from coordinator.upload_desk import closed, verify_open
from secagg.errors import UsageError
from secagg.messages.round import Phase

HEADER_SECONDS: Final = 30.0
"""A header is small, and sent at once."""
INCOMING_OPTIONS: Final = (
    # Otherwise gRPC lets what it holds of each connection grow with the line, to 16 MiB and more, whether it is read or not.
    ("grpc.http2.bdp_probe", 0),
    # A part and some: a client that is refused has its part off its hands, and so learns why. 25 MB/s where a round trip takes 50 ms.
    ("grpc.http2.lookahead_bytes", 1280 * 1024),
    # A caller's waiting calls and streams, and as many again.
    ("grpc.max_concurrent_streams", 128),
)
"""Options of a server that takes uploads: what it holds of them before they are read is bounded for each connection."""


async def header_of(requests: AsyncIterator[Any]) -> Any:
    """Return the header that the first message of an upload carries.

    Raises:
        UsageError: it carries none, or does not come.
    """
    try:
        async with asyncio.timeout(HEADER_SECONDS):
            async for message in requests:
                if message.WhichOneof("body") == "header":
                    return message.header
                break
    except TimeoutError:
        raise UsageError(f"an upload began without a header within {HEADER_SECONDS:g} s") from None
    raise UsageError("the first message of an upload carries the header")


async def parts_of(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield the parts after the header; :class:`UsageError` on anything else."""
    async for message in requests:
        if message.WhichOneof("body") != "part":
            raise UsageError("only the first message of an upload carries the header")
        yield message.part


@asynccontextmanager
async def ending_with_uploads(live: LiveRound) -> AsyncIterator[None]:
    """End the block when the uploads are closed, also while nothing comes: a silent client would hold its place for ever.

    Raises:
        LateError: the uploads are closed.
        ElsewhereError: the round is not run here any more.
    """
    try:
        async with asyncio.timeout(None) as limit:
            watching = asyncio.create_task(_expire(live, limit))
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        verify_open(live)
        raise closed(live) from None


async def _expire(live: LiveRound, limit: asyncio.Timeout) -> None:
    await live.left(Phase.UPLOADING)
    limit.reschedule(asyncio.get_running_loop().time())
