"""Uploads of live rounds: who may send, into which files, and when what arrived counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from coordinator.contracts import Limits
from coordinator.rounds.live import LiveRound
from coordinator.rounds.surroundings import Surroundings
from coordinator.spool import UploadKey, UploadPart
from he.ciphertext import half_chunk_bytes
from secagg import codec
from secagg.errors import BusyError, FaultyClientError, LateError
from secagg.ids import ClientId
from secagg.messages.round import Half, Phase, Upload
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.events import UploadRefused, UploadVerified
from secagg.roles.coordinator.uploading import check_upload
from secagg.wire.v1 import client_service_pb2 as pb

STREAMS_PER_CLIENT: Final = 4
"""A client that lost its connection begins again before the old stream is known to be dead."""

Receive = Callable[[pb.UploadPart], Awaitable[None]]


class Uploads:
    """Takes uploads, of at most ``limits.concurrent_uploads`` clients at a time."""

    def __init__(self, around: Surroundings, limits: Limits) -> None:
        self._around = around
        self._most = limits.concurrent_uploads
        self._running: Counter[UploadKey] = Counter()
        self._completing: WeakValueDictionary[UploadKey, asyncio.Lock] = WeakValueDictionary()

    async def offsets(self, live: LiveRound, client: ClientId) -> tuple[int, int]:
        """Return how many bytes of c0 and c1 have arrived."""
        sizes = await asyncio.to_thread(self._around.spool.sizes, _key(live, client))
        return sizes[Half.C0], sizes[Half.C1]

    @asynccontextmanager
    async def begin(self, live: LiveRound, upload: Upload) -> AsyncIterator[Receive]:
        """Let a client of the roster send parts; each is on file when the call returns.

        Raises:
            BusyError: too many uploads run, or the spool is full.
            SecAggError: the upload must not count, by `check_upload`.
        """
        key = _key(live, upload.client)
        counted = check_upload(live.state, upload)
        self._check_place(key)
        if not counted:
            parameters = live.state.certified.parameters
            self._around.spool.reserve(key, parameters.chunks * half_chunk_bytes(parameters))
        self._running[key] += 1
        self._around.metrics.uploads_running(1)
        try:
            yield lambda part: self._receive(live, key, part)
        finally:
            self._running -= Counter({key: 1})
            self._around.metrics.uploads_running(-1)

    def _check_place(self, key: UploadKey) -> None:
        if self._running[key] >= STREAMS_PER_CLIENT:
            raise BusyError(f"{self._running[key]} uploads of client {key.client} are running already")
        if key not in self._running and len(self._running) >= self._most:
            raise BusyError(f"uploads of {self._most} clients are running already")

    async def _receive(self, live: LiveRound, key: UploadKey, wire: pb.UploadPart) -> None:
        if live.state.phase is not Phase.UPLOADING:
            raise LateError(f"the uploads of round {key.round} are closed")
        half = codec.half_from_wire(wire.half)
        part = UploadPart(half=half, offset=wire.offset, data=wire.data, digest=wire.digest)
        await asyncio.to_thread(self._around.spool.append, key, part)
        self._around.metrics.bytes_received(len(part.data))

    async def complete(self, live: LiveRound, upload: Authenticated[Upload]) -> None:
        """Verify the spooled bytes and count them; the same again is harmless.

        Raises:
            FaultyClientError: the bytes are not what was signed, or must not count; the client is out of this round.
            WrongPhaseError: bytes are missing; the client may go on.
        """
        key = _key(live, upload.message.client)
        lock = self._completing.setdefault(key, asyncio.Lock())
        async with lock:
            if check_upload(live.state, upload.message):
                return
            try:
                await self._verify(live, key, upload.message)
            except FaultyClientError as error:
                await self._refuse(live, key, error)
                raise
            await live.apply(UploadVerified(upload=upload))
            self._around.metrics.contribution_counted()

    async def _verify(self, live: LiveRound, key: UploadKey, upload: Upload) -> None:
        parameters, loop = live.state.certified.parameters, asyncio.get_running_loop()
        verify = self._around.spool.verify
        digests = await loop.run_in_executor(self._around.compute, verify, key, parameters, upload)
        live.claim_chunks(key.client, digests)

    async def _refuse(self, live: LiveRound, key: UploadKey, error: FaultyClientError) -> None:
        live.log.warning("upload refused", client=key.client, reason=error.reason)
        self._around.metrics.contribution_refused()
        await live.apply(UploadRefused(client=key.client, reason=error.reason))
        await asyncio.to_thread(self._around.spool.discard, key)


def _key(live: LiveRound, client: ClientId) -> UploadKey:
    return UploadKey(job=live.state.spec.job, round=live.state.round, client=client)
