"""The large parts of a round, up and down, each resumed where a broken connection left it, whatever the protocol."""

from __future__ import annotations

import asyncio
import hashlib
import math
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias

from secagg.client.calls import ANSWER_SECONDS, Coordinator, Limit
from secagg.client.threads import in_thread
from secagg.coordinators import TRIED_AGAIN, Patience
from secagg.errors import FaultyCoordinatorError, SecAggError, UnreachableError
from secagg.ids import JobId, RoundNumber
from secagg.wire.v1 import client_service_pb2 as pb

MAX_PART_BYTES: Final = 1024 * 1024
FIRST_WINDOW_BYTES: Final = 2 * MAX_PART_BYTES
LEAST_WINDOW_BYTES: Final = 64 * 1024
COMPLETE_SECONDS: Final = 300.0
"""Deadline of one try to complete an upload: the coordinator reads all of it."""

Offsets: TypeAlias = tuple[int, ...]
"""One position in each stretch of an upload."""


class Upload(Protocol):
    """One upload in the messages of its protocol: one or more stretches of bytes, sent one after the other.

    It is signed once: a repetition must be the same bytes.
    """

    @property
    def sizes(self) -> Offsets:
        """Length of each stretch."""

    @property
    def grain(self) -> int:
        """Bytes that only go as a whole: of a stretch that arrived in part, the last incomplete grain is sent again."""

    @property
    def part_bytes(self) -> int:
        """Length of a part: whole grains, `MAX_PART_BYTES` at the most."""

    def read(self, stretch: int, offset: int, length: int) -> bytes:
        """Return bytes of a stretch. Blocking."""

    def begin(self, seconds: float) -> Any:
        """Open the stream of header and parts; return the call."""

    def header(self, request_id: str) -> Any:
        """Return the stream's first message."""

    def part(self, stretch: int, offset: int, data: bytes, digest: bytes) -> Any:
        """Return a message with a part."""

    def arrived(self, answer: Any) -> Offsets:
        """Return how much has arrived, as an answer of the coordinator says."""

    def ask_arrived(self, seconds: float) -> Awaitable[Any]:
        """Ask how much has arrived, or whether all of it is counted (``complete``)."""

    def complete(self, request_id: str, seconds: float) -> Awaitable[Any]:
        """Have it verified and counted."""


class Window:
    """How much is under way before the coordinator has said what arrived; grows smaller with each break.

    On a wire that holds, all of it: one stream. A break loses what is under way, so on one that breaks it is 2 MiB, then 1, and
    less only when not even that arrives.
    """

    def __init__(self) -> None:
        self._bytes: int | None = None

    def broke(self, *, progress: bool) -> None:
        """Take note of a break. ``progress``: whether anything had arrived since the one before."""
        if self._bytes is None:
            self._bytes = FIRST_WINDOW_BYTES
        elif self._bytes > MAX_PART_BYTES or not progress:
            self._bytes = max(self._bytes // 2, LEAST_WINDOW_BYTES)

    def pieces(self, upload: Upload, offsets: Offsets) -> Iterator[tuple[int, int, int]]:
        """Yield the parts of one stream: stretch, offset and the most bytes; whole grains, at least one part."""
        part: int = upload.part_bytes
        left: float = math.inf
        if self._bytes is not None:
            part, left = min(part, max(self._bytes // upload.grain, 1) * upload.grain), self._bytes
        for stretch, size in enumerate(upload.sizes):
            for offset in range(offsets[stretch], size, part):
                yield stretch, offset, part
                left -= part
                if left < part:
                    return


class Uploader:
    """Sends one upload.

    Args:
        coordinator: whom to call.
        upload: what to send.
        report: told how many bytes of all stretches were sent.
    """

    def __init__(self, coordinator: Coordinator, upload: Upload, report: Callable[[int], None]) -> None:
        self._coordinator = coordinator
        self._upload = upload
        self._report = report
        self._request_id = uuid.uuid4().hex
        self._window = Window()

    async def run(self, limit: Limit, *, resumed: bool = False) -> None:
        """Send every stretch, then have the upload counted.

        Args:
            limit: of all tries together.
            resumed: whether another process may have sent some of it: ask before the first byte.

        Raises:
            UnreachableError: nobody answered for too long.
            SecAggError: the error that the coordinator named.
        """
        start: Offsets = tuple(0 for _ in self._upload.sizes)
        offsets = await self._arrived(limit) if resumed else start
        patience = self._coordinator.patience(limit)
        while offsets is not None:
            if limit.over:
                raise UnreachableError(str(self._coordinator.party), "it did not take the upload in time")
            before = sum(offsets)
            failure: SecAggError | None = None
            try:
                offsets = await self._send(offsets, limit)
            except TRIED_AGAIN as error:
                failure = error
                await self._coordinator.wait(patience, error)
                offsets = await self._arrived(limit)
            await self._take_stock(patience, before, offsets, failure)
        await self._complete(limit)

    async def _take_stock(
        self, patience: Patience, before: int, offsets: Offsets | None, failure: SecAggError | None
    ) -> None:
        progress = offsets is None or sum(offsets) > before
        if progress:
            patience.answered()
        elif failure is None:
            lost = "it lost what it had taken"
            await self._coordinator.wait(patience, UnreachableError(str(self._coordinator.party), lost))
        if isinstance(failure, UnreachableError):
            self._window.broke(progress=progress)

    async def _arrived(self, limit: Limit) -> Offsets | None:
        """Return where to go on; None when nothing is left to send."""
        answer = await self._coordinator.ask(self._upload.ask_arrived, limit)
        return None if answer.complete else self._next(*self._upload.arrived(answer))

    def _next(self, *arrived: int) -> Offsets | None:
        sizes, grain = self._upload.sizes, self._upload.grain
        if any(bytes_there > size for bytes_there, size in zip(arrived, sizes, strict=True)):
            raise FaultyCoordinatorError(f"it says that more than the {sum(sizes)} bytes of the upload have arrived")
        return None if arrived == sizes else tuple(count // grain * grain for count in arrived)

    async def _send(self, offsets: Offsets, limit: Limit) -> Offsets | None:
        # The coordinator ends what comes too late, and says so: it has time to.
        call = self._upload.begin(limit.remaining + ANSWER_SECONDS)
        try:
            with self._coordinator.errors():
                try:
                    await call.write(self._upload.header(self._request_id))
                    await self._write_parts(call, offsets)
                    await call.done_writing()
                except asyncio.InvalidStateError:
                    # The call was ended from the other side; its status says why.
                    pass
                answer = await call
        finally:
            call.cancel()
        return self._next(*self._upload.arrived(answer))

    async def _write_parts(self, call: Any, offsets: Offsets) -> None:
        upload, sent = self._upload, sum(offsets)
        for stretch, offset, length in self._window.pieces(upload, offsets):
            data, digest = await in_thread(_read_hashed, upload, stretch, offset, length)
            await call.write(upload.part(stretch, offset, data, digest))
            sent += len(data)
            self._report(sent)

    async def _complete(self, limit: Limit) -> None:
        request_id = uuid.uuid4().hex
        await self._coordinator.ask(
            lambda seconds: self._upload.complete(request_id, seconds), limit, seconds=COMPLETE_SECONDS
        )


def _read_hashed(upload: Upload, stretch: int, offset: int, length: int) -> tuple[bytes, bytes]:
    data = upload.read(stretch, offset, length)
    return data, hashlib.sha256(data).digest()


async def download_mean(coordinator: Coordinator, job: JobId, round: RoundNumber, size: int, limit: Limit) -> bytes:
    """Return the mean's bytes, whatever they are worth; never more than ``size``.

    Raises:
        FaultyCoordinatorError: it sends more.
        UnreachableError: nobody answered for too long.
    """
    received = bytearray()
    patience = coordinator.patience(limit)
    while True:
        try:
            before = len(received)
            with coordinator.errors():
                await _receive(coordinator, job, round, size, received, limit)
        except TRIED_AGAIN as error:
            if len(received) > before:
                patience.answered()
            await coordinator.wait(patience, error)
        else:
            return bytes(received)


async def _receive(
    coordinator: Coordinator, job: JobId, round: RoundNumber, size: int, received: bytearray, limit: Limit
) -> None:
    request = pb.DownloadMeanRequest(job=job, round=round, offset=len(received))
    call = coordinator.stub.DownloadMean(request, timeout=limit.remaining + ANSWER_SECONDS)
    try:
        async for part in call:
            received += part.data
            if len(received) > size:
                raise FaultyCoordinatorError(f"it sends more than the {size} bytes of the mean")
    finally:
        call.cancel()
