"""The engine: for every running job one round after another, each with a key of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import structlog

from coordinator.contracts import EngineResources, JobRecord, JobState, Lease, RoundRecord
from coordinator.rounds.calls import KeyHolderCalls
from coordinator.rounds.changes import Changes, WaitingRoom
from coordinator.rounds.cleaning import clean_up_record, delete_leftovers, tell_holders
from coordinator.rounds.holders import HolderPool
from coordinator.rounds.leases import LeaseHolder
from coordinator.rounds.live import LiveRound
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.surroundings import Surroundings
from coordinator.rounds.taking_up import take_up
from coordinator.spool import UploadSpool
from coordinator.upload_desk import UploadDesk
from secagg import faults
from secagg.errors import ElsewhereError, SecAggError, StorageError, UnknownRoundError
from secagg.ids import HolderId, JobId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import JobSpec

_log: Final = structlog.get_logger("coordinator.engine")
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_FAILURE_PAUSE_SECONDS: Final = 3.0
_LOOK_AGAIN_SECONDS: Final = 30.0
_SOON_SECONDS: Final = 3.0
"""How long a call waits for rounds that nobody runs for the moment: at a start, or right after a job was made."""
_LOOK_ELSEWHERE_SECONDS: Final = 1.0
"""How often the store is looked at for a round that another process runs."""
_jitter: Final = random.SystemRandom()
_SETTLING_SECONDS: Final = 20.0
_CLOSING_SECONDS: Final = 15.0
_COMPUTE_THREADS: Final = 2


class JobRun:
    """One job: its newest round here, and whether there will be another."""

    def __init__(self, spec: JobSpec, *, complete: bool) -> None:
        self.spec = spec
        self.complete = complete
        self.changes = Changes()
        self.lease: Lease | None = None
        self.letting_go: set[asyncio.Task[None]] = set()
        self.settled = asyncio.Event()
        self.live: LiveRound | None = None
        self.task: asyncio.Task[None] | None = None

    def running(self, round: RoundNumber) -> LiveRound | None:
        """Return a round of that number that runs, or ran last, here."""
        live = self.live
        return live if live is not None and live.state.round == round and not live.suspended else None

    def open_after(self, round: int) -> LiveRound | None:
        """Return the round that can be joined, when it is later than ``round``."""
        live = self.live
        if live is None or live.suspended or live.state.phase is not Phase.OPEN or live.state.plan is None:
            return None
        return live if live.state.round > round else None


class RoundEngine:
    """Runs the rounds of every running job whose lease it gets.

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
        self.leases = LeaseHolder(
            resources.store,
            owner=resources.owner,
            address=resources.address,
            seconds=resources.lease_seconds,
            alone=resources.alone,
        )
        self.waiting = WaitingRoom(resources.limits)
        self.desk = UploadDesk(self.around, resources.limits)
        self._runs: dict[JobId, JobRun] = {}
        self._stopping = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on with the rounds that ran when this process, or another, ended; begin those of every other running job."""
        for record in await asyncio.to_thread(self.resources.store.running_jobs):
            self._run(self._run_of(record))
        self._keeping = asyncio.create_task(self._keep())
        # Whoever calls finds the rounds as they stood; what takes longer is waited for by the calls themselves.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLING_SECONDS):
                for run in list(self._runs.values()):
                    await run.settled.wait()

    async def stop(self, grace_seconds: float) -> None:
        """Begin no new round, give running ones ``grace_seconds``, then leave them as they stand in the store."""
        self._stopping.set()
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        await self._suspend_all()
        letting_go = [task for run in self._runs.values() for task in run.letting_go]
        if letting_go:
            await asyncio.wait(letting_go, timeout=_CLOSING_SECONDS)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()
            await self._suspend_all()
        if self._keeping is not None:
            self._keeping.cancel()
        await asyncio.gather(
            *(self.leases.give_back(run.lease) for run in self._runs.values() if run.lease is not None)
        )
        self.leases.close()
        if self._pool is not None:
            await self._pool.close()
        self._compute.shutdown(wait=False, cancel_futures=True)

    async def _suspend_all(self) -> None:
        await asyncio.gather(*(run.live.suspend() for run in self._runs.values() if run.live is not None))

    async def job_created(self, job: JobId) -> None:
        """Run the rounds of a job that is in the store now; harmless when they run already."""
        run = self._runs.get(job)
        if run is None or run.task is None:
            record = await asyncio.to_thread(self.resources.store.job, job)
            if record.state is JobState.RUNNING and not self._stopping.is_set():
                run = self._run_of(record)
                await self._taken(run)
                self._run(run)

    def forget(self, before: float) -> None:
        """Let go of the rounds that ended before a time; from then on the store alone says what is known of them."""
        for run in self._runs.values():
            if run.live is not None and run.live.closed.is_set() and run.live.ended_before(before):
                run.live = None

    def _run_of(self, record: JobRecord) -> JobRun:
        return self._runs.setdefault(record.spec.job, JobRun(record.spec, complete=record.state is JobState.COMPLETE))

    def _run(self, run: JobRun) -> None:
        if run.task is None and not self._stopping.is_set():
            run.task = asyncio.create_task(self._run_job(run))

    async def _keep(self) -> None:
        """Renew the leases in time, let go of what was lost, and find jobs that were made elsewhere."""
        while not await self._paused(self.leases.renewal_seconds):
            await asyncio.gather(*(self._renew(run) for run in list(self._runs.values())))
            try:
                for record in await asyncio.to_thread(self.resources.store.running_jobs):
                    self._run(self._run_of(record))
            except StorageError as error:
                _log.warning("jobs not looked at", cause=str(error))

    async def _renew(self, run: JobRun) -> None:
        lease = run.lease
        if lease is not None and not await self.leases.still_held(lease) and run.lease is lease:
            self._lost(run)

    def _lost(self, run: JobRun) -> None:
        _log.warning("lease lost", job=run.spec.job)
        run.lease = None
        if run.live is not None:
            # What it computes is waited for, and nobody's lease meanwhile.
            letting_go = asyncio.create_task(self._let_go(run.live))
            run.letting_go.add(letting_go)
            letting_go.add_done_callback(run.letting_go.discard)
        run.changes.notify()

    async def _let_go(self, live: LiveRound) -> None:
        await live.suspend()
        await self._sweep(live)

    async def _sweep(self, live: LiveRound) -> None:
        """Delete what this process still wrote of a round after another one had ended it and cleaned up."""
        store, job, number = self.resources.store, live.state.spec.job, live.state.round
        try:
            record = await asyncio.to_thread(store.round, job, number)
            unclosed = await asyncio.to_thread(store.unclosed_rounds, job)
            if record.status.phase.ended and all(one.status.round != number for one in unclosed):
                await asyncio.to_thread(delete_leftovers, self.around, job, number, record.mean_blob)
        except SecAggError as error:
            _log.warning("nothing swept", job=job, round=number, cause=str(error))

    async def _taken(self, run: JobRun) -> bool:
        """Whether this process may run the job's rounds now."""
        if run.letting_go:
            # What it did for a lease that it lost ends before it begins anew; a disk that hangs is asked about again later.
            _, pending = await asyncio.wait(set(run.letting_go), timeout=self.leases.renewal_seconds)
            if pending:
                return False
        if run.lease is None:
            try:
                run.lease = await self.leases.take(run.spec.job)
                run.changes.notify()
            except StorageError as error:
                _log.warning("lease not taken", job=run.spec.job, cause=str(error))
        return run.lease is not None

    async def _run_job(self, run: JobRun) -> None:
        aborted_in_a_row = 0
        while not self._stopping.is_set() and not run.complete:
            if not await self._taken(run):
                run.settled.set()
                await self._wait_elsewhere(run)
            elif await self._advanced(run):
                aborted_in_a_row = 0
            else:
                aborted_in_a_row += 1
                await self._paused(_FIRST_PAUSE_SECONDS * 2 ** min(aborted_in_a_row - 1, 10))

    async def _wait_elsewhere(self, run: JobRun) -> None:
        """Wait while another process runs the job's rounds, and see whether it has ended them."""
        await self._paused(self.leases.renewal_seconds)
        try:
            record = await asyncio.to_thread(self.resources.store.job, run.spec.job)
        except StorageError as error:
            _log.warning("job not looked at", job=run.spec.job, cause=str(error))
            return
        if record.state is JobState.COMPLETE:
            run.complete = True
            run.changes.notify()

    async def _advanced(self, run: JobRun) -> bool:
        """Complete the job or publish a round; a store that fails now may work again after the pause."""
        try:
            return await self._finished(run) or await self._round_ran(run)
        except ElsewhereError:
            self._lost(run)
            return True
        except Exception:  # noqa: BLE001 - whatever it is, the job must not stop without a word
            _log.exception("round not run", job=run.spec.job)
            # Soon again: a round may be waiting, and its deadlines do not.
            await self._paused(_FAILURE_PAUSE_SECONDS)
            return True

    async def _finished(self, run: JobRun) -> bool:
        """Complete the job when it has published all its rounds, and all of them are cleaned up."""
        store, job = self.resources.store, run.spec.job
        if run.live is None or run.live.over:
            try:
                await self._resumed(run)
            finally:
                run.settled.set()
        if run.live is not None and not run.live.over:
            return False
        record = await asyncio.to_thread(store.job, job)
        if run.spec.rounds == 0 or record.published_rounds < run.spec.rounds:
            return False
        await asyncio.to_thread(store.complete_job, job, self.resources.clock(), run.lease)
        faults.reach("job.completed")
        _log.info("job complete", job=job, rounds=record.published_rounds)
        run.complete = True
        run.changes.notify()
        return True

    async def _resumed(self, run: JobRun) -> None:
        """Clean up after rounds that ended, and go on with the one that did not."""
        for record in await asyncio.to_thread(self.resources.store.unclosed_rounds, run.spec.job):
            if record.status.phase.ended:
                await tell_holders(self.around, record)
                await asyncio.to_thread(clean_up_record, self.around, record, run.lease)
            else:
                await self._resume(run, record)

    async def _resume(self, run: JobRun, record: RoundRecord) -> None:
        live = await take_up(run.spec, record, self.around, run.changes, run.lease)
        if live is None:
            await tell_holders(self.around, record)
            await asyncio.to_thread(clean_up_record, self.around, record, run.lease)
        else:
            run.live = live
            run.changes.notify()

    async def _round_ran(self, run: JobRun) -> bool:
        """Begin a round, unless one was resumed, and wait for its end."""
        live = run.live
        if live is None or live.over:
            store, job = self.resources.store, run.spec.job
            number = await asyncio.to_thread(store.next_round, job)
            live = LiveRound(run.spec, number, self.around, run.changes, run.lease)
            await live.begin()
            run.live = live
            run.changes.notify()
        await live.closed.wait()
        if live.ledger.overtaken:
            # Another process of the same name, by a copied data directory, is at work: who waits longer leaves it the round.
            await self._paused(self.leases.seconds * _jitter.uniform(0.5, 2.0))
        if live.suspended:
            # Before the round is read back: with a lease that is lost, this would disturb whoever goes on with it.
            if run.lease is not None and not await self.leases.still_held(run.lease):
                self._lost(run)
            return not self._stopping.is_set()
        return live.state.phase is Phase.PUBLISHED

    async def _paused(self, seconds: float) -> bool:
        """Wait, and say whether the engine is stopping."""
        try:
            async with asyncio.timeout(min(seconds, _LONGEST_PAUSE_SECONDS)):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def verify_here(self, run: JobRun) -> None:
        """Raise :class:`ElsewhereError` unless this process runs the job's rounds, or the job is complete."""
        if run.lease is not None or run.complete:
            return
        address = await self.leases.owner_of(run.spec.job)
        if address or not await run.changes.wait_until(lambda: run.lease is not None or run.complete, _SOON_SECONDS):
            raise ElsewhereError(run.spec.job, address)

    async def run_of(self, job: JobId) -> JobRun:
        """Return what is known of a job; :class:`UnknownJobError` when there is none."""
        run = self._runs.get(job)
        if run is None:
            run = self._run_of(await asyncio.to_thread(self.resources.store.job, job))
        return run

    async def live_round(self, job: JobId, round: RoundNumber) -> LiveRound | None:
        """Return a round that this process runs or ran last; None when it is known from the store only.

        Raises:
            UnknownJobError, UnknownRoundError: there is no such round.
            ElsewhereError: it runs, and another process runs it.
        """
        run = await self.run_of(job)
        if (live := run.running(round)) is not None:
            return live
        record = await asyncio.to_thread(self.resources.store.round, job, round)
        if record.status.phase.ended:
            return None
        # Just taken up, or about to be: its events are being read.
        if run.lease is not None and await run.changes.wait_until(
            lambda: run.running(round) is not None, _SOON_SECONDS
        ):
            return run.running(round)
        raise ElsewhereError(job, await self.leases.owner_of(job))

    async def status(self, job: JobId, round: RoundNumber) -> RoundStatus:
        """Return where a round stands; round 0 is the newest."""
        live = (await self.run_of(job)).live
        if live is not None and not live.suspended and round in (0, live.state.round):
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
            here = run.lease is not None
            await run.changes.wait_until(changed, _LOOK_AGAIN_SECONDS if here else _LOOK_ELSEWHERE_SECONDS)

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
        if live is None or live.suspended:
            return run.complete != complete
        return run.complete != complete or (round in (0, live.state.round) and live.status != shown)
