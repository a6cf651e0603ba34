"""Masked vectors of live ``masking`` rounds: who may send, and when what arrived counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from coordinator.contracts import AnsweredRequest
from coordinator.rounds.live import LiveRound
from coordinator.rounds.protocols import masking_state
from coordinator.rounds.surroundings import Surroundings
from coordinator.streams import UploadKey
from coordinator.upload_desk import UploadDesk, key_of, verify_open
from secagg.errors import NotFoundError
from secagg.ids import ClientId
from secagg.messages.masking import MaskedUpload
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.events import VectorVerified
from secagg.roles.coordinator.masking.uploading import check_vector
from secagg.wire.v1 import masking_service_pb2 as pb

Receive = Callable[[pb.VectorPart], Awaitable[None]]


class VectorUploads:
    """Takes masked vectors.

    Args:
        around: what the driver works with.
        desk: shared with the uploads of other protocols.
    """

    def __init__(self, around: Surroundings, desk: UploadDesk) -> None:
        self._around = around
        self._desk = desk

    async def offset(self, live: LiveRound, client: ClientId) -> int:
        """Return how many bytes have arrived."""
        return await self._desk.look(live, client, partial(self._around.vectors.size, key_of(live, client))) or 0

    @asynccontextmanager
    async def begin(self, live: LiveRound, upload: MaskedUpload) -> AsyncIterator[Receive]:
        """Let a sharer send parts; each is on file when the call returns.

        Raises:
            BusyError: too many uploads run, or the spool is full.
            SecAggError: the vector must not count, by `check_vector`.
        """
        key = key_of(live, upload.client)
        state = masking_state(live.state)
        counted = check_vector(state, upload)
        with self._desk.place(key):
            if not counted:
                clients = len(set(state.sharers) - state.refused.keys())
                self._around.vectors.reserve(key, state.spec.masking_parameters.vector_bytes, clients=clients)
            yield lambda part: self._receive(live, key, part)

    async def _receive(self, live: LiveRound, key: UploadKey, part: pb.VectorPart) -> None:
        verify_open(live)

        append = self._around.vectors.append
        await self._desk.write(live, key, partial(append, key, offset=part.offset, data=part.data, digest=part.digest))
        self._around.metrics.bytes_received(len(part.data))

    async def complete(
        self, live: LiveRound, upload: Authenticated[MaskedUpload], request: AnsweredRequest | None = None
    ) -> None:
        """Verify the spooled vector and count it; errors as of :meth:`UploadDesk.complete`."""
        key = key_of(live, upload.message.client)
        await self._desk.complete(
            live,
            key,
            counted=lambda: check_vector(masking_state(live.state), upload.message),
            verify=lambda: self._verify(live, key, upload.message),
            event=VectorVerified(upload=upload),
            request=request,
        )

    async def _verify(self, live: LiveRound, key: UploadKey, upload: MaskedUpload) -> None:
        parameters, loop = live.state.spec.masking_parameters, asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._around.compute, self._around.vectors.verify, key, parameters, upload)
        except NotFoundError:
            # The uploads were closed meanwhile, and what had not been counted is gone.
            verify_open(live)
            raise
