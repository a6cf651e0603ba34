"""The large parts of a round: both halves up, the mean down, each resumed where a broken connection left it."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import grpc.aio

from he.ciphertext import half_chunk_bytes
from he.parameters import Parameters
from secagg import codec
from secagg.client.calls import Coordinator, Limit
from secagg.client.encryption import in_thread
from secagg.client.spool import CiphertextSpool
from secagg.errors import BusyError, FaultyCoordinatorError, UnreachableError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Half
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.signed_pb2 import Signed

MAX_PART_BYTES: Final = 1024 * 1024
COMPLETE_SECONDS: Final = 300.0
"""Deadline of one try of CompleteUpload: the coordinator reads the whole upload."""

Offsets: TypeAlias = Mapping[Half, int]
UploadCall: TypeAlias = "grpc.aio.StreamUnaryCall[pb.UploadHalvesRequest, pb.UploadHalvesResponse]"
_START: Final[Offsets] = {Half.C0: 0, Half.C1: 0}


@dataclass(frozen=True, kw_only=True)
class UploadJob:
    """One upload. ``signed`` is signed once: a repetition must be the same bytes."""

    job: JobId
    round: RoundNumber
    signed: Signed
    parameters: Parameters
    spool: CiphertextSpool

    @property
    def half_bytes(self) -> int:
        """Length of one half."""
        return self.parameters.chunks * half_chunk_bytes(self.parameters)

    @property
    def part_bytes(self) -> int:
        """Length of a part: as many whole chunks as fit 1 MiB."""
        chunk = half_chunk_bytes(self.parameters)
        return MAX_PART_BYTES // chunk * chunk


class Uploader:
    """Sends one upload.

    Args:
        coordinator: whom to call.
        upload: what to send.
        report: told how many bytes of both halves were sent.
    """

    def __init__(self, coordinator: Coordinator, upload: UploadJob, report: Callable[[int], None]) -> None:
        self._coordinator = coordinator
        self._upload = upload
        self._report = report
        self._request_id = uuid.uuid4().hex

    async def run(self, limit: Limit) -> None:
        """Send both halves, then have them counted.

        Raises:
            UnreachableError: nobody answered for too long.
            SecAggError: the error that the coordinator named.
        """
        offsets: Offsets | None = _START
        patience = self._coordinator.patience(limit)
        while offsets is not None:
            before = offsets
            try:
                offsets = await self._send(offsets, limit)
            except (UnreachableError, BusyError) as error:
                await patience.pause(error)
                offsets = await self._arrived(limit)
            if offsets is not None and sum(offsets.values()) > sum(before.values()):
                patience.answered()
        await self._complete(limit)

    async def _arrived(self, limit: Limit) -> Offsets | None:
        """Return where to go on; None when nothing is left to send."""
        request = pb.GetUploadOffsetsRequest(job=self._upload.job, round=self._upload.round)
        stub = self._coordinator.stub
        answer = await self._coordinator.ask(lambda seconds: stub.GetUploadOffsets(request, timeout=seconds), limit)
        return None if answer.complete else self._next(answer.c0_bytes, answer.c1_bytes)

    def _next(self, c0_bytes: int, c1_bytes: int) -> Offsets | None:
        size, chunk = self._upload.half_bytes, half_chunk_bytes(self._upload.parameters)
        if max(c0_bytes, c1_bytes) > size:
            raise FaultyCoordinatorError(f"it says that more than the {size} bytes of a half have arrived")
        if c0_bytes == c1_bytes == size:
            return None
        # A chunk that arrived in part is sent again as a whole.
        return {Half.C0: c0_bytes // chunk * chunk, Half.C1: c1_bytes // chunk * chunk}

    async def _send(self, offsets: Offsets, limit: Limit) -> Offsets | None:
        upload = self._upload
        header = pb.UploadHeader(request_id=self._request_id, job=upload.job, round=upload.round, upload=upload.signed)
        call = self._coordinator.stub.UploadHalves(timeout=limit.remaining)
        try:
            with self._coordinator.errors():
                try:
                    await call.write(pb.UploadHalvesRequest(header=header))
                    await self._write_parts(call, offsets)
                    await call.done_writing()
                except asyncio.InvalidStateError:
                    # The call was ended from the other side; its status says why.
                    pass
                answer = await call
        finally:
            call.cancel()
        return self._next(answer.c0_bytes, answer.c1_bytes)

    async def _write_parts(self, call: UploadCall, offsets: Offsets) -> None:
        upload, sent = self._upload, sum(offsets.values())
        for half in Half:
            for offset in range(offsets[half], upload.half_bytes, upload.part_bytes):
                data = await in_thread(upload.spool.read, half, offset, upload.part_bytes)
                digest = hashlib.sha256(data).digest()
                part = pb.UploadPart(half=codec.half_to_wire(half), offset=offset, data=data, digest=digest)
                await call.write(pb.UploadHalvesRequest(part=part))
                sent += len(data)
                self._report(sent)

    async def _complete(self, limit: Limit) -> None:
        upload = self._upload
        request = pb.CompleteUploadRequest(
            request_id=uuid.uuid4().hex, job=upload.job, round=upload.round, upload=upload.signed
        )
        stub = self._coordinator.stub
        await self._coordinator.ask(
            lambda seconds: stub.CompleteUpload(request, timeout=seconds), limit, seconds=COMPLETE_SECONDS
        )


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
            with coordinator.errors():
                await _receive(coordinator, job, round, size, received, limit)
        except (UnreachableError, BusyError) as error:
            await patience.pause(error)
        else:
            return bytes(received)


async def _receive(
    coordinator: Coordinator, job: JobId, round: RoundNumber, size: int, received: bytearray, limit: Limit
) -> None:
    request = pb.DownloadMeanRequest(job=job, round=round, offset=len(received))
    call = coordinator.stub.DownloadMean(request, timeout=limit.remaining)
    try:
        async for part in call:
            received += part.data
            if len(received) > size:
                raise FaultyCoordinatorError(f"it sends more than the {size} bytes of the mean")
    finally:
        call.cancel()
