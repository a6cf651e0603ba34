"""The engine: for every running job one round after another, each with a key of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import structlog

from coordinator.contracts import EngineResources, JobState
from coordinator.rounds.calls import KeyHolderCalls
from coordinator.rounds.changes import Changes, WaitingRoom
from coordinator.rounds.holders import HolderPool
from coordinator.rounds.live import LiveRound
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.surroundings import Surroundings
from coordinator.spool import UploadSpool
from coordinator.upload_desk import UploadDesk
from secagg.errors import SecAggError, UnknownRoundError
from secagg.ids import HolderId, JobId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import JobSpec

_log: Final = structlog.get_logger("coordinator.engine")
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 30.0
_CLOSING_SECONDS: Final = 15.0
_COMPUTE_THREADS: Final = 2


class JobRun:
    """One job: its newest round, and whether there will be another."""

    def __init__(self, spec: JobSpec, *, complete: bool) -> None:
        self.spec = spec
        self.complete = complete
        self.changes = Changes()
        self.live: LiveRound | None = None
        self.task: asyncio.Task[None] | None = None

    def open_after(self, round: int) -> LiveRound | None:
        """Return the round that can be joined, when it is later than ``round``."""
        live = self.live
        if live is None or live.state.phase is not Phase.OPEN or live.state.plan is None:
            return None
        return live if live.state.round > round else None


class RoundEngine:
    """Runs the rounds of every running job.

    Args:
        resources: stores, identity, limits, clock.
        holders: who to ask instead of the addresses in ``resources``; for tests.
    """

    def __init__(self, resources: EngineResources, holders: Mapping[HolderId, KeyHolderCalls] | None = None) -> None:
        self.resources = resources
        self._pool = None if holders is not None else HolderPool(resources.identity, resources.holders)
        calls = holders if self._pool is None else self._pool.calls
        self._compute = ThreadPoolExecutor(_COMPUTE_THREADS, thread_name_prefix="compute")
        self.around = Surroundings(
            store=resources.store,
            blobs=resources.blobs,
            spool=UploadSpool(resources.blobs, max_bytes=resources.limits.spool_bytes),
            identity=resources.identity,
            holders={} if calls is None else calls,
            clock=resources.clock,
            metrics=RoundMetrics(resources.metrics),
            compute=self._compute,
        )
        self.waiting = WaitingRoom(resources.limits)
        self.desk = UploadDesk(self.around, resources.limits)
        self._runs: dict[JobId, JobRun] = {}
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Run the rounds of every running job; what a former process had spooled is gone."""
        await asyncio.to_thread(self.resources.blobs.delete_prefix, "uploads")
        for record in await asyncio.to_thread(self.resources.store.running_jobs):
            self._run(record.spec)

    async def stop(self, grace_seconds: float) -> None:
        """Begin no new round, give running ones ``grace_seconds``, then abort them."""
        self._stopping.set()
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        lives = [run.live for run in self._runs.values() if run.live is not None and not run.live.state.phase.ended]
        await asyncio.gather(*(live.give_up("the coordinator was stopped") for live in lives))
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()
        if self._pool is not None:
            await self._pool.close()
        self._compute.shutdown(wait=False, cancel_futures=True)

    async def job_created(self, job: JobId) -> None:
        """Run the rounds of a job that is in the store now; harmless when they run already."""
        run = self._runs.get(job)
        if run is None or run.task is None:
            record = await asyncio.to_thread(self.resources.store.job, job)
            if record.state is JobState.RUNNING:
                self._run(record.spec)

    def _run(self, spec: JobSpec) -> None:
        if self._stopping.is_set():
            return
        run = self._runs.setdefault(spec.job, JobRun(spec, complete=False))
        if run.task is None:
            run.task = asyncio.create_task(self._run_job(run))

    async def _run_job(self, run: JobRun) -> None:
        aborted_in_a_row = 0
        while not self._stopping.is_set() and not run.complete:
            if await self._advanced(run):
                aborted_in_a_row = 0
            else:
                aborted_in_a_row += 1
                await self._pause(_FIRST_PAUSE_SECONDS * 2 ** min(aborted_in_a_row - 1, 10))

    async def _advanced(self, run: JobRun) -> bool:
        """Complete the job or publish a round; a store that fails now may work again after the pause."""
        try:
            return await self._finished(run) or await self._run_round(run)
        except Exception:  # noqa: BLE001 - whatever it is, the job must not stop without a word
            _log.exception("round not run", job=run.spec.job)
            return False

    async def _finished(self, run: JobRun) -> bool:
        """Complete the job when it has published all its rounds."""
        store, job = self.resources.store, run.spec.job
        record = await asyncio.to_thread(store.job, job)
        if run.spec.rounds == 0 or record.published_rounds < run.spec.rounds:
            return False
        await asyncio.to_thread(store.complete_job, job, self.resources.clock())
        _log.info("job complete", job=job, rounds=record.published_rounds)
        run.complete = True
        run.changes.notify()
        return True

    async def _run_round(self, run: JobRun) -> bool:
        store, job = self.resources.store, run.spec.job
        number = await asyncio.to_thread(store.next_round, job)
        live = LiveRound(run.spec, number, self.around, run.changes)
        await asyncio.to_thread(store.open_round, job, number, self.resources.clock(), live.state.phase)
        run.live = live
        try:
            await live.begin()
        except SecAggError as error:
            await live.give_up(f"the round could not begin: {error.cause}")
        await live.closed.wait()
        return live.state.phase is Phase.PUBLISHED

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, _LONGEST_PAUSE_SECONDS)):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def run_of(self, job: JobId) -> JobRun:
        """Return what is known of a job; :class:`UnknownJobError` when there is none."""
        run = self._runs.get(job)
        if run is None:
            record = await asyncio.to_thread(self.resources.store.job, job)
            run = self._runs.setdefault(job, JobRun(record.spec, complete=record.state is JobState.COMPLETE))
        return run

    async def live_round(self, job: JobId, round: RoundNumber) -> LiveRound | None:
        """Return a round that this process runs or ran last; None when it is known from the store only.

        Raises:
            UnknownJobError, UnknownRoundError: there is no such round.
        """
        live = (await self.run_of(job)).live
        if live is not None and live.state.round == round:
            return live
        await asyncio.to_thread(self.resources.store.round, job, round)
        return None

    async def status(self, job: JobId, round: RoundNumber) -> RoundStatus:
        """Return where a round stands; round 0 is the newest."""
        live = (await self.run_of(job)).live
        if live is not None and round in (0, live.state.round):
            return live.status
        store = self.resources.store
        if round:
            return (await asyncio.to_thread(store.round, job, round)).status
        last = await asyncio.to_thread(store.last_round, job)
        if last is None:
            raise UnknownRoundError(f"job {job} has had no round yet")
        return last.status

    async def watch(self, job: JobId, round: RoundNumber) -> AsyncIterator[RoundStatus]:
        """Yield a status at once and one for each change, until the round, or for round 0 the job, has ended.

        The round that the job opens next is waited for.
        """
        run = await self.run_of(job)
        shown: RoundStatus | None = None
        while True:
            complete = run.complete
            status = await self._shown(job, round)
            if status is not None and status != shown:
                shown = status
                yield status
            ended = status is not None and status.phase.ended
            if (round and ended) or (not round and complete):
                return
            changed = partial(self._differs, run, round, shown, complete=complete)
            await run.changes.wait_until(changed, _LOOK_AGAIN_SECONDS)

    async def _shown(self, job: JobId, round: RoundNumber) -> RoundStatus | None:
        try:
            return await self.status(job, round)
        except UnknownRoundError:
            if not round or await self._is_next(job, round):
                return None
        # Not the next one any more: it was opened between the two looks, or it never was.
        return await self.status(job, round)

    async def _is_next(self, job: JobId, round: RoundNumber) -> bool:
        """Whether a running job opens this round next: who has just made a job may already watch its first."""
        run = await self.run_of(job)
        return not run.complete and round == await asyncio.to_thread(self.resources.store.next_round, job)

    @staticmethod
    def _differs(run: JobRun, round: RoundNumber, shown: RoundStatus | None, *, complete: bool) -> bool:
        live = run.live
        if live is None:
            return run.complete != complete
        return run.complete != complete or (round in (0, live.state.round) and live.status != shown)
