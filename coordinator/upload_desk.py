"""What uploads of every protocol have in common: how many run at a time, and that each is verified and counted once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from coordinator.contracts import AnsweredRequest, Limits
from coordinator.pushback import seconds_until_free
from coordinator.rounds.live import LiveRound
from coordinator.rounds.surroundings import Surroundings
from coordinator.streams import UploadKey
from secagg import faults
from secagg.errors import BusyError, ElsewhereError, FaultyClientError, LateError, StorageError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import Event, UploadRefused

T = TypeVar("T")

STREAMS_PER_CLIENT: Final = 4
"""A client that lost its connection begins again before the old stream is known to be dead."""

WRITERS: Final = 16
"""Parts that are written at a time, at the most: enough for a bucket, where each takes a while."""


class UploadDesk:
    """Takes uploads of at most ``limits.concurrent_uploads`` clients at a time.

    Each stream has one part in memory at the most, so all of them together ``STREAMS_PER_CLIENT`` for each of these clients.
    """

    def __init__(self, around: Surroundings, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._around = around
        self._most = limits.concurrent_uploads
        self._clock = clock
        self._running: dict[UploadKey, list[float]] = {}
        self._looking: Counter[ClientId] = Counter()
        self._completing: WeakValueDictionary[UploadKey, asyncio.Lock] = WeakValueDictionary()
        # Threads of their own: parts that wait for a slow disk keep nobody from the database.
        writers = min(self._most, WRITERS)
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="spool")
        self._slots = asyncio.Semaphore(writers)

    @contextmanager
    def place(self, key: UploadKey) -> Iterator[None]:
        """Hold a place for one stream of one client; :class:`BusyError` when there is none."""
        self._check_place(key)
        began = self._clock()
        self._running.setdefault(key, []).append(began)
        self._around.metrics.uploads_running(1)
        try:
            yield
        finally:
            self._running[key].remove(began)
            if not self._running[key]:
                del self._running[key]
            self._around.metrics.uploads_running(-1)

    def _check_place(self, key: UploadKey) -> None:
        own = self._running.get(key, [])
        if len(own) >= STREAMS_PER_CLIENT:
            raise self._busy(f"{len(own)} uploads of client {key.client} are running already", own)
        if not own and len(self._running) >= self._most:
            held = [began[0] for began in self._running.values()]
            raise self._busy(f"uploads of {self._most} clients are running already", held)

    def _busy(self, reason: str, began: list[float]) -> BusyError:
        now = self._clock()
        return BusyError(reason, retry_after_seconds=seconds_until_free(now - one for one in began))

    async def write(self, live: LiveRound, key: UploadKey, append: Callable[[], object]) -> None:
        """Put a part on file in a thread, when there is one; it keeps its thread to the end, even when the caller goes away.

        Raises:
            StorageError: it could not be stored.
            SecAggError: it must not be stored, as of :meth:`Spool.append`.
        """
        await self._slots.acquire()
        writing = asyncio.get_running_loop().run_in_executor(self._writers, append)
        writing.add_done_callback(self._written)
        try:
            await asyncio.shield(writing)
        except StorageError as error:
            live.log.warning("part not stored", client=key.client, cause=str(error))
            raise
        faults.reach("part.appended")

    def _written(self, writing: asyncio.Future[object]) -> None:
        self._slots.release()
        # Read, though the caller may be gone: otherwise it is logged as a defect of ours.
        if not writing.cancelled():
            writing.exception()

    async def look(self, live: LiveRound, client: ClientId, size: Callable[[], T]) -> T | None:
        """Return what has arrived of a client's upload; None for a stranger, of whom nothing can have arrived.

        Raises:
            BusyError: the client asks too often at a time.
        """
        if client not in live.state.joins:
            return None
        if self._looking[client] >= STREAMS_PER_CLIENT:
            raise BusyError(f"client {client} asks {STREAMS_PER_CLIENT} times at once", retry_after_seconds=1)
        self._looking[client] += 1
        try:
            async with self._slots:
                return await asyncio.get_running_loop().run_in_executor(self._writers, size)
        finally:
            self._looking -= Counter({client: 1})

    async def complete(
        self,
        live: LiveRound,
        key: UploadKey,
        *,
        counted: Callable[[], bool],
        verify: Callable[[], Awaitable[None]],
        event: Event,
        request: AnsweredRequest | None = None,
    ) -> None:
        """Verify what was spooled and count it; the same again is harmless.

        Args:
            live: the round.
            key: whose upload.
            counted: whether it counts already; raises when it must not count.
            verify: holds the spooled bytes against what was signed.
            event: what the machine is told once they hold.
            request: the call that says that all is sent, with its answer.

        Raises:
            FaultyClientError: the bytes are not what was signed, or must not count; the client is out of this round.
            WrongPhaseError: bytes are missing; the client may go on.
        """
        lock = self._completing.setdefault(key, asyncio.Lock())
        async with lock:
            if counted():
                if request is not None:
                    await live.ledger.keep_answer(request)
                return
            try:
                await verify()
            except FaultyClientError as error:
                await self._refuse(live, key, error)
                raise
            faults.reach("upload.verified")
            await live.apply(event, request)
            self._around.metrics.contribution_counted()

    async def _refuse(self, live: LiveRound, key: UploadKey, error: FaultyClientError) -> None:
        live.log.warning("upload refused", client=key.client, reason=error.reason)
        self._around.metrics.contribution_refused()
        await live.apply(UploadRefused(client=key.client, reason=error.reason))
        await asyncio.to_thread(self._around.spool.discard, key)
        faults.reach("upload.discarded")


def key_of(live: LiveRound, client: ClientId) -> UploadKey:
    """Return under which key a client's upload is spooled."""
    return UploadKey(job=live.state.spec.job, round=live.state.round, client=client)


def verify_open(live: LiveRound) -> None:
    """Raise :class:`LateError` once no upload counts any more, :class:`ElsewhereError` once it is not taken here."""
    if live.suspended:
        raise ElsewhereError(live.state.spec.job)
    if live.state.phase is not Phase.UPLOADING:
        raise closed(live)


def closed(live: LiveRound) -> LateError:
    """Return what is raised once no upload counts any more."""
    return LateError(f"the uploads of round {live.state.round} are closed")
