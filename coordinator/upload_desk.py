"""What uploads of every protocol have in common: how many run at a time, and that each is verified and counted once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final
from weakref import WeakValueDictionary

from coordinator.contracts import Limits
from coordinator.rounds.live import LiveRound
from coordinator.rounds.surroundings import Surroundings
from coordinator.streams import UploadKey
from secagg.errors import BusyError, FaultyClientError, LateError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import Event, UploadRefused

STREAMS_PER_CLIENT: Final = 4
"""A client that lost its connection begins again before the old stream is known to be dead."""


class UploadDesk:
    """Takes uploads of at most ``limits.concurrent_uploads`` clients at a time."""

    def __init__(self, around: Surroundings, limits: Limits) -> None:
        self._around = around
        self._most = limits.concurrent_uploads
        self._running: Counter[UploadKey] = Counter()
        self._completing: WeakValueDictionary[UploadKey, asyncio.Lock] = WeakValueDictionary()

    @contextmanager
    def place(self, key: UploadKey) -> Iterator[None]:
        """Hold a place for one stream of one client; :class:`BusyError` when there is none."""
        self._check_place(key)
        self._running[key] += 1
        self._around.metrics.uploads_running(1)
        try:
            yield
        finally:
            self._running -= Counter({key: 1})
            self._around.metrics.uploads_running(-1)

    def _check_place(self, key: UploadKey) -> None:
        if self._running[key] >= STREAMS_PER_CLIENT:
            raise BusyError(f"{self._running[key]} uploads of client {key.client} are running already")
        if key not in self._running and len(self._running) >= self._most:
            raise BusyError(f"uploads of {self._most} clients are running already")

    async def complete(
        self,
        live: LiveRound,
        key: UploadKey,
        *,
        counted: Callable[[], bool],
        verify: Callable[[], Awaitable[None]],
        event: Event,
    ) -> None:
        """Verify what was spooled and count it; the same again is harmless.

        Args:
            live: the round.
            key: whose upload.
            counted: whether it counts already; raises when it must not count.
            verify: holds the spooled bytes against what was signed.
            event: what the machine is told once they hold.

        Raises:
            FaultyClientError: the bytes are not what was signed, or must not count; the client is out of this round.
            WrongPhaseError: bytes are missing; the client may go on.
        """
        lock = self._completing.setdefault(key, asyncio.Lock())
        async with lock:
            if counted():
                return
            try:
                await verify()
            except FaultyClientError as error:
                await self._refuse(live, key, error)
                raise
            await live.apply(event)
            self._around.metrics.contribution_counted()

    async def _refuse(self, live: LiveRound, key: UploadKey, error: FaultyClientError) -> None:
        live.log.warning("upload refused", client=key.client, reason=error.reason)
        self._around.metrics.contribution_refused()
        await live.apply(UploadRefused(client=key.client, reason=error.reason))
        await asyncio.to_thread(self._around.spool.discard, key)


def key_of(live: LiveRound, client: ClientId) -> UploadKey:
    """Return under which key a client's upload is spooled."""
    return UploadKey(job=live.state.spec.job, round=live.state.round, client=client)


def verify_open(live: LiveRound) -> None:
    """Raise :class:`LateError` once no upload counts any more."""
    if live.state.phase is not Phase.UPLOADING:
        raise closed(live)


def closed(live: LiveRound) -> LateError:
    """Return what is raised once no upload counts any more."""
    return LateError(f"the uploads of round {live.state.round} are closed")
