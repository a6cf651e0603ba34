"""A coordinator's process in a simulation: its real round driver over stores that outlive it, killed and started again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import CollectorRegistry

from coordinator.contracts import AnsweredRequest, BlobStore, ContributionState, RequestRecord, RoundRecord, RoundStore
from coordinator.rounds.calls import KeyHolderCalls
from coordinator.rounds.changes import Changes
from coordinator.rounds.cleaning import clean_up_record, tell_holders
from coordinator.rounds.live import LiveRound, Standing
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.recalling import recall
from coordinator.rounds.surroundings import Surroundings
from coordinator.rounds.together import MOST_TOGETHER, Waiting
from coordinator.spool import UploadSpool
from secagg import codec
from secagg.errors import SecAggError, UnreachableError
from secagg.ids import ClientId, HolderId, RoundNumber
from secagg.messages.round import HolderStatus, Phase
from secagg.plan import JobSpec
from secagg.roles.coordinator.state import RoundState
from secagg.signing import SignedMessage
from tests.machines.coordinator_walks import bare
from tests.simulation.deaths import Death, Reached, Reaper
from tests.simulation.memory_stores import MemoryBlobs, MemoryRounds
from tests.simulation.network import Process
from tests.simulation.round_material import EPOCH_SECONDS


class WatchedRound(LiveRound):
    """A round whose refusals change nothing, or the simulation fails."""

    async def _step(self, waiting: Sequence[Waiting]) -> int:
        before, offered = self.state, tuple(waiting)
        count = await super()._step(offered)
        errors = [one.outcome.exception() for one in offered[:count]]
        if all(isinstance(error, SecAggError) for error in errors):
            refused = ", ".join(type(one.event).__name__ for one in offered[:count])
            assert self.state is before, f"a refused {refused} changed the round"
        return count


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the store says of a round."""

    phase: Phase
    reason: str
    contributors: tuple[ClientId, ...]
    refused: frozenset[ClientId]
    holders: Mapping[HolderId, HolderStatus]
    key: bytes | None
    result: SignedMessage | None
    total_weight: float


class CoordinatorProcess:
    """One coordinator with one round, as often as it is started.

    Args:
        spec: the job.
        round: its round.
        identity: signs and trusts.
        holders: the ways to the key holders.
        defects: collects what fails inside.
        prepared: is shown each live round before it begins.
    """

    def __init__(
        self,
        spec: JobSpec,
        round: RoundNumber,
        *,
        identity: Any,
        holders: Mapping[HolderId, KeyHolderCalls],
        defects: list[str],
        prepared: Callable[[LiveRound], None] = lambda _: None,
    ) -> None:
        self.process = Process("the coordinator", defects)
        self.blobs, self.store = MemoryBlobs(), MemoryRounds()
        self.over = asyncio.Event()
        self.acknowledged: dict[str, set[ClientId]] = {}
        self.killed = 0
        self._spec, self._round = spec, round
        self._identity, self._holders, self._defects, self._prepared = identity, holders, defects, prepared
        self._last: tuple[RoundState, int] | None = None
        self._crashed = asyncio.Event()
        self._build()

    def _build(self) -> None:
        """Make all that lives in a process's memory."""
        self._reaper = reaper = Reaper(self.crash)
        blobs = cast("BlobStore", Reached(self.blobs, reaper))
        self.changes = Changes()
        self.around = Surroundings(
            store=cast("RoundStore", Reached(self.store, reaper)),
            blobs=blobs,
            spool=UploadSpool(blobs, max_bytes=1 << 30),
            identity=self._identity,
            holders=self._holders,
            clock=lambda: EPOCH_SECONDS + asyncio.get_running_loop().time(),
            metrics=RoundMetrics(CollectorRegistry()),
            compute=cast("Any", None),
        )
        self.live = WatchedRound(self._spec, self._round, self.around, self.changes)
        self._prepared(self.live)
        self._runs = False
        self._main: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start the process; it may die on the way."""
        begun = asyncio.Event()
        self._main = asyncio.ensure_future(self._run(begun))
        waiting = [asyncio.ensure_future(one) for one in (begun.wait(), self._crashed.wait())]
        await asyncio.wait([*waiting, self._main], return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()

    async def _run(self, begun: asyncio.Event) -> None:
        try:
            await self._go_on()
            begun.set()
            if self._runs:
                await self.live.closed.wait()
                assert not self.live.suspended
            self.over.set()
        except Exception as error:
            self._defects.append(f"the coordinator failed inside: {error!r}")
            raise

    async def _go_on(self) -> None:
        """Begin the round, go on with it, or clean up after it: what the engine does at its start."""
        record = self.store.record
        if record is None:
            await self.live.begin()
        elif record.status.phase.ended:
            if not self.store.closed:
                await tell_holders(self.around, record)
                await asyncio.to_thread(clean_up_record, self.around, record, None)
            self.process.running = True
            return
        else:
            standing = recall(self._spec, record, self.store.kept, self._identity.trust.without_revocations())
            self._check(standing)
            await self.live.resume(standing)
        self._runs = True
        self.process.running = True

    def _check(self, standing: Standing) -> None:
        """See that nothing is lost which was done before: at most one step of events was stored that nobody has seen."""
        if self._last is not None:
            state, events = self._last
            assert events <= standing.events <= events + MOST_TOGETHER
            assert standing.events > events or bare(standing.state) == bare(state)
        for what, clients in self.acknowledged.items():
            assert clients <= set(getattr(standing.state, what)), f"{what} were acknowledged and forgotten"

    def acknowledge(self, what: str, client: ClientId) -> None:
        """Take note that a client's call is answered now, and so may never be forgotten. ``what``: where it stands in the state."""
        late = what in ("confirmations", "unmaskings") and client not in getattr(self.live.state, what)
        if not late:
            self.acknowledged.setdefault(what, set()).add(client)

    def crash(self) -> None:
        """Die at once, wherever it stands, and say nothing to anybody."""
        live, chores = self.live, self.live.chores
        self._reaper.dies()
        self.process.crash()
        live._cancel_timers()
        computing = chores._computing
        for task in (self._main, *live._moves, *chores._tasks, *computing):
            if task is not None:
                task.cancel()
        if self._runs:
            self._last = (live.state, live.ledger.events)
        self.killed += 1
        self._crashed.set()

    async def doom(self, deaths: Sequence[Death]) -> None:
        """Die again and again, and come back each time with what lies in the stores; to be begun before :meth:`begin`."""
        for death in deaths:
            self._reaper.arm(death)
            try:
                async with asyncio.timeout(death.seconds):
                    await self._crashed.wait()
            except TimeoutError:
                if not self._crashed.is_set():
                    self.crash()
            await asyncio.sleep(death.down_seconds)
            self._crashed = asyncio.Event()
            self._build()
            await self.begin()

    async def stop(self) -> None:
        """End the round, if it can still be ended here."""

        async def stopped() -> None:
            if self.running is not None and not self.live.state.phase.ended:
                await self.live.give_up("the coordinator was stopped")

        with suppress(UnreachableError):
            await self.process.serve(stopped)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait as long as the real service does."""
        await self.changes.wait_until(holds, 20.0)

    @property
    def running(self) -> LiveRound | None:
        """The round, unless it ended in a former process."""
        return self.live if self._runs else None

    @property
    def record(self) -> RoundRecord:
        """What is stored."""
        assert self.store.record is not None
        return self.store.record

    @property
    def outcome(self) -> Outcome:
        """What is stored, as the invariants look at it."""
        record = self.record
        status = record.status
        refused = (one.client for one in record.contributions if one.state is ContributionState.REJECTED)
        return Outcome(
            phase=status.phase,
            reason=status.reason,
            contributors=status.contributors,
            refused=frozenset(refused),
            holders={one.holder: one for one in status.holders},
            key=record.key,
            result=signed_result(record),
            total_weight=status.total_weight,
        )


def request_of(client: ClientId, what: str, signed: SignedMessage) -> AnsweredRequest:
    """Return a client's call under the id that it gives all its repetitions."""
    request = RequestRecord(caller=client, request_id=what, digest=hashlib.sha256(signed.payload).digest())
    return AnsweredRequest(request=request, answer=what.encode())


def signed_result(record: RoundRecord) -> SignedMessage | None:
    """Return the signed result of a published round."""
    return None if record.result is None else codec.signed_from_bytes(record.result)
