"""Asking one key holder for its approval or its partial decryption (``docs/protocol.md``, 6.1 to 6.4)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from coordinator.contracts import BlobStore
from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest, KeyHolderCalls
from coordinator.rounds.persisting import LostUploadError
from coordinator.streams import MAX_PART_BYTES, UploadKey
from he.ciphertext import half_chunk_bytes
from he.parameters import Parameters
from secagg.errors import FaultyKeyHolderError, NotFoundError, SecAggError, StorageError, UnreachableError
from secagg.ids import ClientId, HolderId
from secagg.messages.round import Approval, Half, PartialStatement
from secagg.messages.signed import Authenticated

T = TypeVar("T")

_TRIES: Final = 2
_PAUSE_SECONDS: Final = 1.0


Silence = Callable[[UnreachableError], Awaitable[None]]


async def persevering(call: Callable[[], Awaitable[T]], on_silence: Silence) -> T:
    """Make a call again, once, when nobody answered: a holder may have been restarted. Silence is reported at once."""
    for _ in range(_TRIES - 1):
        try:
            return await call()
        except UnreachableError as error:
            await on_silence(error)
            await asyncio.sleep(_PAUSE_SECONDS)
    return await call()


async def ask_approval(
    calls: KeyHolderCalls,
    blobs: BlobStore,
    request: ApprovalRequest,
    *,
    timeout_seconds: float,
    on_silence: Silence,
) -> Authenticated[Approval]:
    """Show the request and stream every contributor's c1 from disk; errors as of :class:`KeyHolderCalls`.

    Raises:
        StorageError: a c1 cannot be read for the moment.
        LostUploadError: a c1 is gone.
    """

    async def approve() -> Authenticated[Approval]:
        shown = _Shown(contributor_parts(blobs, request))
        try:
            return await calls.approve(request, shown.parts(), timeout_seconds=timeout_seconds)
        except (SecAggError, asyncio.CancelledError):
            # The holder's call breaks with a part that is not there, and gRPC cancels it: that is ours, and not the holder's.
            if shown.failure is not None:
                raise shown.failure from None
            raise

    return await persevering(approve, on_silence)


class _Shown:
    """Parts on their way to a holder, and what kept one from being read."""

    def __init__(self, parts: AsyncIterator[ContributorPart]) -> None:
        self._parts = parts
        self.failure: Exception | None = None

    async def parts(self) -> AsyncIterator[ContributorPart]:
        try:
            async for part in self._parts:
                yield part
        except Exception as error:
            self.failure = error
            raise


async def contributor_parts(blobs: BlobStore, request: ApprovalRequest) -> AsyncIterator[ContributorPart]:
    """Yield all c1 in the order of the uploads, in whole chunks of at most 1 MiB together."""
    plan = request.plan
    chunk_bytes = half_chunk_bytes(plan.parameters)
    step = max(1, MAX_PART_BYTES // chunk_bytes)
    for contributor, upload in enumerate(request.uploads):
        key = UploadKey(job=plan.spec.job, round=plan.round, client=ClientId(upload.message.client))
        for first in range(0, plan.parameters.chunks, step):
            count = min(step, plan.parameters.chunks - first)
            data = await asyncio.to_thread(_read_part, blobs, key, first * chunk_bytes, count * chunk_bytes)
            yield ContributorPart(contributor=contributor, first_chunk=first, data=data)


def _read_part(blobs: BlobStore, key: UploadKey, offset: int, size: int) -> bytes:
    try:
        data = blobs.read(key.blob(Half.C1.value), offset, size)
    except NotFoundError as error:
        raise LostUploadError(f"what client {key.client} uploaded is gone from the blob store") from error
    if len(data) != size:
        raise StorageError(f"what client {key.client} uploaded can be read in part only")
    return data


async def fetch_answer(
    calls: KeyHolderCalls,
    blobs: BlobStore,
    request: DecryptionRequest,
    *,
    parameters: Parameters,
    blob: str,
    timeout_seconds: float,
    on_silence: Silence,
) -> Authenticated[PartialStatement]:
    """Spool a holder's answer, on disk when this returns, and return its statement; errors as of :class:`KeyHolderCalls`."""

    async def once() -> Authenticated[PartialStatement]:
        await asyncio.to_thread(blobs.delete_prefix, blob)
        spool = _AnswerSpool(calls.holder, blobs, blob, parameters)
        async for message in calls.decrypt(request, timeout_seconds=timeout_seconds):
            await spool.take(message)
        statement = spool.finish(request)
        await asyncio.to_thread(blobs.sync, blob)
        return statement

    return await persevering(once, on_silence)


class _AnswerSpool:
    """Takes the messages of one answer, and never more bytes than the plan has."""

    def __init__(self, holder: HolderId, blobs: BlobStore, blob: str, parameters: Parameters) -> None:
        self._holder = holder
        self._blobs = blobs
        self._blob = blob
        self._expected = parameters.chunks * half_chunk_bytes(parameters)
        self._hashed = hashlib.sha256()
        self._size = 0
        self._statement: Authenticated[PartialStatement] | None = None

    async def take(self, message: bytes | Authenticated[PartialStatement]) -> None:
        if self._statement is not None:
            raise FaultyKeyHolderError(self._holder, "it went on after its statement")
        if isinstance(message, bytes):
            if self._size + len(message) > self._expected:
                raise FaultyKeyHolderError(self._holder, f"its answer is longer than {self._expected} bytes")
            await asyncio.to_thread(self._append, message)
        else:
            self._statement = message

    def _append(self, data: bytes) -> None:
        self._hashed.update(data)
        self._size = self._blobs.append(self._blob, self._size, data)

    def finish(self, request: DecryptionRequest) -> Authenticated[PartialStatement]:
        if self._size != self._expected or self._statement is None:
            raise FaultyKeyHolderError(self._holder, f"its answer ended after {self._size} of {self._expected} bytes")
        statement = self._statement.message
        if (statement.key_id, statement.request_digest) != (request.key_id, request.request_digest):
            raise FaultyKeyHolderError(self._holder, "its statement is for another request")
        if not hmac.compare_digest(statement.answer_digest, self._hashed.digest()):
            raise FaultyKeyHolderError(self._holder, "its answer is not the one that it signed")
        return self._statement
