"""A coordinator that keeps the retention rule by itself: a purge when it starts and every hour, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import structlog

from coordinator.retention import Purger, RetentionRule
from secagg.errors import SecAggError
from secagg.ids import JobId, RoundNumber
from secagg.messages.retention import PurgedRound

PAUSE_SECONDS: Final = 3600.0
BATCH_ROUNDS: Final = 5
"""Rounds that are purged before anybody looks whether the coordinator is to end."""
_ENDING_SECONDS: Final = 15.0

_log: Final = structlog.get_logger("coordinator.retention")


class PeriodicPurge:
    """Runs inside a coordinator, beside its rounds; several coordinators of one database do no harm to each other.

    Args:
        purger: does it.
        rule: how long things stay.
        forget: told the time before which rounds must have ended to be let go of in memory too.
        pause_seconds: from one purge to the next.
    """

    def __init__(
        self,
        purger: Purger,
        rule: RetentionRule,
        *,
        forget: Callable[[float], None],
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._purger = purger
        self._rule = rule
        self._forget = forget
        self._pause_seconds = pause_seconds
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the first purge."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End after the rounds that are being purged right now; what is left is found again at the next start."""
        self._stopping.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=_ENDING_SECONDS)
            for task in late:
                task.cancel()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._purge()
            except SecAggError as error:
                _log.warning("not purged", cause=str(error))
            except Exception:  # noqa: BLE001 - whatever it is, the rule must hold after the next pause
                _log.exception("not purged")
            await self._paused()

    async def _paused(self) -> None:
        try:
            async with asyncio.timeout(self._pause_seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _purge(self) -> None:
        days = self._rule.record_days
        if days:
            self._forget(self._purger.before(days))
            await self._purge_rounds(self._purger.purged_rounds(days, _warn))
            await asyncio.to_thread(self._purger.purge_trail, days)
        requests = await asyncio.to_thread(self._purger.purge_requests, self._rule.request_days)
        if requests:
            _log.info("answers purged", calls=requests, request_days=self._rule.request_days)

    async def _purge_rounds(self, rounds: Iterator[PurgedRound]) -> None:
        purged = 0
        while not self._stopping.is_set():
            batch = await asyncio.to_thread(lambda: list(islice(rounds, BATCH_ROUNDS)))
            purged += len(batch)
            if len(batch) < BATCH_ROUNDS:
                break
        if purged:
            _log.info("rounds purged", rounds=purged, record_days=self._rule.record_days)


def _warn(job: JobId, round: RoundNumber, error: SecAggError) -> None:
    _log.warning("round not purged", job=job, round=round, cause=str(error))
