"""Ciphertexts of live ``ckks`` rounds: who may send, into which files, and when what arrived counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from coordinator.contracts import AnsweredRequest, Limits
from coordinator.rounds.live import LiveRound
from coordinator.rounds.protocols import ckks_state
from coordinator.rounds.surroundings import Surroundings
from coordinator.spool import UploadPart
from coordinator.streams import UploadKey
from coordinator.upload_desk import STREAMS_PER_CLIENT, UploadDesk, key_of, verify_open
from he.ciphertext import half_chunk_bytes
from secagg import codec
from secagg.ids import ClientId
from secagg.messages.round import Half, Upload
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.events import UploadVerified
from secagg.roles.coordinator.uploading import check_upload
from secagg.wire.v1 import client_service_pb2 as pb

__all__ = ["STREAMS_PER_CLIENT", "Receive", "Uploads"]

Receive = Callable[[pb.UploadPart], Awaitable[None]]


class Uploads:
    """Takes ciphertexts.

    Args:
        around: what the driver works with.
        limits: bounds.
        desk: shared with the uploads of other protocols; one of its own when left out.
    """

    def __init__(self, around: Surroundings, limits: Limits, desk: UploadDesk | None = None) -> None:
        self._around = around
        self._desk = UploadDesk(around, limits) if desk is None else desk

    async def offsets(self, live: LiveRound, client: ClientId) -> tuple[int, int]:
        """Return how many bytes of c0 and c1 have arrived."""
        sizes = await self._desk.look(live, client, partial(self._around.spool.sizes, key_of(live, client)))
        return (0, 0) if sizes is None else (sizes[Half.C0], sizes[Half.C1])

    @asynccontextmanager
    async def begin(self, live: LiveRound, upload: Upload) -> AsyncIterator[Receive]:
        """Let a client of the roster send parts; each is on file when the call returns.

        Raises:
            BusyError: too many uploads run, or the spool is full.
            SecAggError: the upload must not count, by `check_upload`.
        """
        key = key_of(live, upload.client)
        state = ckks_state(live.state)
        counted = check_upload(state, upload)
        with self._desk.place(key):
            if not counted:
                parameters, clients = state.certified.parameters, len(state.joins) - len(state.refused)
                self._around.spool.reserve(key, parameters.chunks * half_chunk_bytes(parameters), clients=clients)
            yield lambda part: self._receive(live, key, part)

    async def _receive(self, live: LiveRound, key: UploadKey, wire: pb.UploadPart) -> None:
        verify_open(live)
        half = codec.half_from_wire(wire.half)
        part = UploadPart(half=half, offset=wire.offset, data=wire.data, digest=wire.digest)
        await self._desk.write(live, key, partial(self._around.spool.append, key, part))
        self._around.metrics.bytes_received(len(part.data))

    async def complete(
        self, live: LiveRound, upload: Authenticated[Upload], request: AnsweredRequest | None = None
    ) -> None:
        """Verify the spooled bytes and count them; errors as of :meth:`UploadDesk.complete`."""
        key = key_of(live, upload.message.client)
        await self._desk.complete(
            live,
            key,
            counted=lambda: check_upload(ckks_state(live.state), upload.message),
            verify=lambda: self._verify(live, key, upload.message),
            event=UploadVerified(upload=upload),
            request=request,
        )

    async def _verify(self, live: LiveRound, key: UploadKey, upload: Upload) -> None:
        parameters, loop = live.state.certified.parameters, asyncio.get_running_loop()
        verify = self._around.spool.verify
        digests = await loop.run_in_executor(self._around.compute, verify, key, parameters, upload)
        live.claim_chunks(key.client, digests)
