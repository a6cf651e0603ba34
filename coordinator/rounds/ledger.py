"""What one round has in the store: events in one step, under the lease, and no doubt about what was written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from coordinator.contracts import AnsweredRequest, Clock, KeptEvent, Lease, RoundMove, RoundStore
from coordinator.rounds import kept_events
from coordinator.rounds.record import Evidence, audit_records, record_of
from coordinator.rounds.together import Decided
from secagg import faults
from secagg.errors import ConflictError, ElsewhereError, StorageError
from secagg.roles.coordinator.effects import Effect
from secagg.roles.coordinator.state import RoundState
from secagg.roles.machine import Step

_LARGE_ROSTER: Final = 256
_REPEATS_KEPT: Final = 8


class RoundLedger:
    """Writes the moves of one round.

    Args:
        store: where they stand.
        clock: seconds since the epoch.
        lease: the right to run the round; None where nobody else could.

    Attributes:
        overtaken: whether another process has gone on with the round under the same lease.
    """

    def __init__(self, store: RoundStore, clock: Clock, lease: Lease | None) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._events = 0
        self._doubtful = False
        self.overtaken = False
        self._repeated: Counter[str] = Counter()

    @property
    def events(self) -> int:
        """How many events are kept."""
        return self._events

    @property
    def doubtful(self) -> bool:
        """Whether a write failed, and nobody knows yet whether it was carried out all the same."""
        return self._doubtful

    @property
    def token(self) -> int:
        """The fencing token of the lease; 0 without one."""
        return 0 if self._lease is None else self._lease.token

    @property
    def lease(self) -> Lease | None:
        """The lease."""
        return self._lease

    def recall(self, events: int) -> None:
        """Go on after this many kept events."""
        self._events = events

    async def open(self, step: Step[Any, Effect], evidence: Evidence) -> None:
        """Take the round's number; errors as of :meth:`RoundStore.open_round`."""
        state, now = step.state, self._clock()
        move = RoundMove(
            job=state.spec.job,
            round=state.round,
            at=now,
            record=record_of(state, evidence),
            audits=audit_records(state, step.effects, now),
        )
        faults.reach("open.storing")
        await asyncio.to_thread(self._store.open_round, move, self._lease)
        faults.reach("open.stored")

    async def advance(
        self, before: RoundState, decided: Sequence[Decided], state: RoundState, evidence: Evidence
    ) -> None:
        """Store everything that some events bring, or nothing.

        Args:
            before: the state before all of them.
            decided: the events that change something, in their order.
            state: the one after the last of them.
            evidence: what belongs to that state.

        Raises:
            StorageError: it is not known to be stored; the next move finds out whether it was.
            ConflictError: one of their requests had another content; nothing is stored.
            ElsewhereError: another process has gone on with the round.
        """
        names = [type(one.waiting.event).__name__ for one in decided]
        for name in names:
            faults.reach(f"{name}.storing")
        try:
            await asyncio.to_thread(self._move, before, decided, state, evidence)
        except StorageError:
            self._doubtful = True
            raise
        except ConflictError:
            # Of a request, which is its caller's matter; unless somebody else has gone on with the round.
            self._doubtful = True
            try:
                await self.settle(before)
            except ElsewhereError:
                self.overtaken = True
                raise
            raise
        for name in names:
            faults.reach(f"{name}.stored")
        if not state.phase.ended:
            self._events += len(decided)

    def _move(self, before: RoundState, decided: Sequence[Decided], state: RoundState, evidence: Evidence) -> None:
        now = self._clock()
        # Where the round ends with them their sequence alone counts: a process that is behind ends nothing.
        ends = state.phase.ended
        kept = tuple(
            KeptEvent(sequence=sequence, content=b"" if ends else kept_events.to_bytes(one.waiting.event), at=now)
            for sequence, one in enumerate(decided, start=self._events + 1)
        )
        # The state follows from the events; the record shows it, and of a large roster it is written when the phase changes.
        shown = state.phase is not before.phase or len(state.joins) <= _LARGE_ROSTER
        move = RoundMove(
            job=state.spec.job,
            round=state.round,
            at=now,
            events=kept,
            record=record_of(state, evidence) if shown else None,
            audits=tuple(line for one in decided for line in audit_records(state, one.effects, now)),
            requests=tuple(one.waiting.request for one in decided if one.waiting.request is not None),
        )
        self._store.advance_round(move, self._lease)

    async def settle(self, state: RoundState) -> None:
        """After a write that failed, see whether it was carried out all the same: its answer may have been lost alone.

        Raises:
            StorageError: the store still fails.
            ElsewhereError: it was; the round has to be read from the store again.
        """
        if self._doubtful:
            job, number = state.spec.job, state.round
            kept = await asyncio.to_thread(self._store.kept_events, job, number)
            record = await asyncio.to_thread(self._store.round, job, number)
            if len(kept) != self._events or record.status.phase.ended:
                raise ElsewhereError(job, next_step="Ask again in a moment: the round is read from the store again")
            self._doubtful = False

    async def keep_answer(self, request: AnsweredRequest) -> None:
        """Store the answer to a call that changed nothing: some for each caller, so that nobody fills the store with repetitions."""
        caller = request.request.caller
        if self._repeated[caller] >= _REPEATS_KEPT:
            return
        self._repeated[caller] += 1
        await asyncio.to_thread(self._store.keep_answer, request, self._clock())
        faults.reach("answer.kept")
