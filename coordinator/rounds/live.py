"""One running round: the machine's state, one event after the other, and its effects in their order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from coordinator.contracts import AnsweredRequest, Lease, mean_name
from coordinator.rounds.changes import Changes
from coordinator.rounds.chores import CkksChores
from coordinator.rounds.cleaning import clean_up
from coordinator.rounds.ledger import RoundLedger
from coordinator.rounds.masking_chores import MaskingChores
from coordinator.rounds.persisting import LostUploadError, persisting
from coordinator.rounds.record import Evidence, status_of
from coordinator.rounds.round_chores import RoundChores
from coordinator.rounds.surroundings import Surroundings
from coordinator.rounds.together import Decided, Turns, Waiting, decide
from secagg import codec, faults
from secagg.errors import ElsewhereError, FaultyClientError, LateError, NotFoundError, StorageError
from secagg.identity import SignedMessage
from secagg.ids import NONCE_BYTES, ClientId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import JobSpec
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import (
    AbortRound,
    Audit,
    DeleteUploads,
    Effect,
    PublishResult,
    SetDeadline,
    SetGrace,
    StoreRound,
)
from secagg.roles.coordinator.events import CancelRequested, DeadlinePassed, Event, GraceOver
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.resuming import phase_seconds, resumed
from secagg.roles.coordinator.state import RoundState

_log: Final = structlog.get_logger("coordinator.round")
_LOOK_AGAIN_SECONDS: Final = 30.0
RECONNECT_SECONDS: Final = 10.0
"""What is left at least of a phase when its round is gone on with: who was cut off has not come back yet."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a round stood when its coordinator ended. ``events``: how many were kept."""

    state: RoundState
    evidence: Evidence
    events: int


class LiveRound:
    """A round from its first event to its end; :meth:`apply` is the only way in.

    Args:
        spec: the job.
        round: its number.
        around: what the driver works with.
        changes: told whenever the round changed.
        lease: the right to run it; every write is held against it.
    """

    def __init__(
        self, spec: JobSpec, round: RoundNumber, around: Surroundings, changes: Changes, lease: Lease | None = None
    ) -> None:
        self._around = around
        self._changes = changes
        self.ledger = RoundLedger(around.store, around.clock, lease)
        self._lock = asyncio.Lock()
        self._turns = Turns(self._next, self._spawn)
        self._settling = False
        self._moves: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._chunks: dict[bytes, ClientId] = {}
        self._result: SignedMessage | None = None
        self._first = rules.begin(spec, round, nonce=secrets.token_bytes(NONCE_BYTES))
        # The plan is shown once the round is stored, not before.
        self.state: RoundState = replace(self._first.state, plan=None)
        self._phase_started: dict[Phase, float] = {self.state.phase: around.clock()}
        masks = isinstance(self.state, MaskingRoundState)
        self.chores: RoundChores = MaskingChores(self, around) if masks else CkksChores(self, around)
        self.suspended = False
        self.closed = asyncio.Event()
        self.log = _log.bind(job=spec.job, round=round)

    @property
    def result(self) -> SignedMessage | None:
        """The signed result, once the round is PUBLISHED."""
        return self._result if self.state.phase is Phase.PUBLISHED else None

    @property
    def status(self) -> RoundStatus:
        """What operators see."""
        return status_of(self.state, self._evidence())

    @property
    def over(self) -> bool:
        """Whether nothing is done in it any more, here."""
        return self.suspended or self.state.phase.ended

    def ended_before(self, at: float) -> bool:
        """Whether it ended before a time, in seconds since the epoch."""
        return self.state.phase.ended and self._phase_started[self.state.phase] < at

    def _evidence(self) -> Evidence:
        return Evidence(phase_started=self._phase_started, result=self._result)

    async def begin(self) -> None:
        """Take the round's number in the store, set its first deadline, and start what it needs before clients can join."""
        step = self._first
        async with self._lock:
            await self.ledger.open(step, self._evidence())
            self._move_to(step.state)
            self._run_all(step.effects, step.state)
        self.chores.begin(step.state)

    async def resume(self, standing: Standing) -> None:
        """Go on where the round stood: with what is owed, and with what is left of its phase's time."""
        state = standing.state
        async with self._lock:
            await self.chores.recall(state)
            self.ledger.recall(standing.events)
            self.state, self._phase_started = state, dict(standing.evidence.phase_started)
            whole = phase_seconds(state)
            # A clock that was put back makes no phase longer than it may be.
            left = min(self._phase_started[state.phase] + whole - self._around.clock(), whole)
            self._set_deadline(state.phase, max(left, self._time_to_come_back()))
            self.log.info("round resumed", phase=state.phase.value, events=standing.events, seconds_left=round(left, 3))
            self.chores.phase_entered(state)
            for effect in resumed(state):
                self._run(effect, state)
            self._changes.notify()
        if state.phase is self._first.state.phase:
            self.chores.begin(state)

    def _time_to_come_back(self) -> float:
        """Return what a phase gets at least: nothing beyond the round's longest end, when the holders' shares are gone."""
        latest = min(self._phase_started.values()) + self.state.spec.longest_seconds + RECONNECT_SECONDS
        return min(RECONNECT_SECONDS, max(latest - self._around.clock(), 0.0))

    async def apply(
        self, event: Event, request: AnsweredRequest | None = None, *, only_in: Phase | None = None
    ) -> None:
        """Apply an event and run its effects to their end, even when the caller goes away.

        Events that come while others are being stored wait, and are stored together: one transaction for all of them.

        Args:
            event: what happened.
            request: the call that brought it, with the answer that it gets; stored in the same step.
            only_in: the phase that it is meant for: when its turn comes in another one, nothing happens.

        Raises:
            SecAggError: the machine refuses the event, or the state cannot be stored; nothing has changed.
        """
        one = Waiting(event=event, request=request, only_in=only_in)
        self._turns.add(one)
        try:
            await asyncio.shield(one.outcome)
        except asyncio.CancelledError:
            one.outcome.add_done_callback(self._note_unheard)
            raise

    def _note_unheard(self, outcome: asyncio.Future[None]) -> None:
        """Read what became of an event whose caller is gone: an error that nobody reads is logged as a defect of ours."""
        error = None if outcome.cancelled() else outcome.exception()
        if error is not None:
            self.log.info("event refused, its caller is gone", cause=str(error))

    async def _next(self, waiting: Sequence[Waiting]) -> int:
        async with self._lock:
            return await self._step(waiting)

    async def _step(self, waiting: Sequence[Waiting]) -> int:
        """Apply the first of these events, store all that they change in one step, and tell each what became of it.

        Returns:
            How many they were.
        """
        decided: list[Decided] = []
        try:
            self._verify_here()
            await self.ledger.settle(self.state)
            decided = decide(self.state, waiting)
            await self._store([one for one in decided if one.effects])
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers raise it
            tried = [one.waiting for one in decided] or waiting
            if len(decided) > 1 and not isinstance(error, StorageError | ElsewhereError):
                await self._step_by_halves(tried)
            else:
                self._failed(tried, error)
        else:
            # All that is stored, with nobody in between; then answers to what changed nothing.
            for one in decided:
                self._carry_out(one)
            for one in decided:
                await self._answer_again(one)
        return len(decided) or len(waiting)

    async def _step_by_halves(self, waiting: Sequence[Waiting]) -> None:
        """Find the event that cannot be stored, a request that had another content before, say: it is its caller's matter alone."""
        middle = len(waiting) // 2
        for half in (waiting[:middle], waiting[middle:]):
            left = half
            while left:
                left = left[await self._step(left) :]

    def _failed(self, waiting: Sequence[Waiting], error: Exception) -> None:
        for one in waiting:
            one.fail(error)
        if isinstance(error, ElsewhereError):
            self._spawn(self.suspend())
        elif self.ledger.doubtful and not self._settling:
            self._settling = True
            self._spawn(self.guarded(self._settle, "finding out what was stored"))

    async def _settle(self) -> None:
        """See what became of a write whose answer was lost: who repeats a call is answered by the store, and brings no event."""
        try:
            async with self._lock:
                await self.ledger.settle(self.state)
        except ElsewhereError:
            self._spawn(self.suspend())
        self._settling = False

    def _verify_here(self) -> None:
        if self.suspended:
            raise ElsewhereError(self.state.spec.job)

    async def _store(self, decided: Sequence[Decided]) -> None:
        """Store events that change something; the last of them may end the phase."""
        if not decided:
            return
        state, effects, started = decided[-1].state, decided[-1].effects, self._phase_started
        if state.phase not in started:
            started = {**started, state.phase: self._around.clock()}
        results = [one.result for one in effects if isinstance(one, PublishResult)]
        # Signed first, so that what is stored is what will be shown.
        signed = codec.sign(results[0], self._around.identity.signer) if results else None
        evidence = Evidence(phase_started=started, result=signed)
        await self.ledger.advance(self.state, decided, state, evidence)
        if self.suspended:
            # Stored in time; whoever goes on with the round carries it out, and answers the call when it is repeated.
            raise ElsewhereError(state.spec.job)
        self._result, self._phase_started = signed, started

    def _carry_out(self, one: Decided) -> None:
        """Do what an event that is stored brings, and tell what became of it."""
        if one.error is not None:
            one.waiting.fail(one.error)
        elif one.effects:
            with one.waiting.told():
                self._move_to(one.state)
                self._run_all(one.effects, one.state)
                faults.reach(f"{type(one.waiting.event).__name__}.done")

    async def _answer_again(self, one: Decided) -> None:
        """Keep the answer to a call that changed nothing, and tell that it is answered."""
        if one.error is None and not one.effects:
            with one.waiting.told():
                if one.waiting.request is not None:
                    await self.ledger.keep_answer(one.waiting.request)
                faults.reach(f"{type(one.waiting.event).__name__}.done")

    def _run_all(self, effects: tuple[Effect, ...], state: RoundState) -> None:
        for effect in effects:
            self._run(effect, state)

    def _run(self, effect: Effect, state: RoundState) -> None:
        match effect:
            case StoreRound() | PublishResult():
                pass  # Done before anything else.
            case SetDeadline():
                self._set_deadline(effect.phase, effect.seconds)
            case SetGrace():
                self._set_timer("grace", effect.seconds, GraceOver())
            case Audit():
                self.log.info(effect.event, **dict(effect.details))
            case AbortRound():
                self.log.warning("round aborted", reason=effect.reason, have=effect.have, need=effect.need)
            case DeleteUploads():
                self._spawn(self._close())
            case _:
                self.chores.delegate(effect, state)

    def _move_to(self, state: RoundState) -> None:
        left, self.state = self.state.phase, state
        if left is not state.phase:
            seconds = self._phase_started[state.phase] - self._phase_started[left]
            self._around.metrics.phase_left(left, seconds)
            self.log.info("phase", phase=state.phase.value, seconds_before=round(seconds, 3))
            self._cancel_timers()
            self.chores.phase_entered(state)
        self._changes.notify()

    def _set_deadline(self, phase: Phase, seconds: float) -> None:
        self._set_timer("deadline", seconds, DeadlinePassed(phase=phase))

    def _set_timer(self, name: str, seconds: float, event: Event) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()
        loop, phase = asyncio.get_running_loop(), self.state.phase
        self._timers[name] = loop.call_later(seconds, lambda: self.report(event, phase))

    def _cancel_timers(self) -> None:
        while self._timers:
            self._timers.popitem()[1].cancel()

    def report(self, event: Event, phase: Phase) -> None:
        """Apply an event of the driver's own that is meant for a phase; if that fails, the round ends."""
        self._spawn(self.guarded(lambda: self._reported(event, phase), type(event).__name__))

    async def _reported(self, event: Event, phase: Phase) -> None:
        # In its turn: who called before the timer fired comes before it. One that fires while a client's event ends the phase
        # comes too late, and is no failure.
        if not self.suspended:
            await self.apply(event, only_in=phase)

    async def guarded(self, work: Any, what: str) -> None:
        """Do something of the driver's own: again while the store fails; any other failure of ours ends the round."""
        try:
            await persisting(work, lambda: self.over, self.log)
        except ElsewhereError:
            self.log.info("left to another process", happening=what)
        except (LostUploadError, NotFoundError) as error:
            self.log.exception("uploads lost", happening=what)
            lost = isinstance(error, LostUploadError)
            await self.give_up(str(error) if lost else "what was uploaded is gone from the coordinator's blob store")
        except Exception as error:
            if not self.over:
                self.log.exception("round failed inside", happening=what)
                await self.give_up(f"the coordinator failed: {type(error).__name__}")

    async def give_up(self, reason: str) -> None:
        """End the round; when the store does not take it, leave it as it stands there, to be gone on with."""
        try:
            await self.apply(CancelRequested(reason=reason))
        except Exception:
            if not self.over:
                self.log.exception("end of the round not stored", reason=reason)
                await self.suspend()

    async def suspend(self) -> None:
        """Stop without an end: the store has all that it takes to go on, here or elsewhere."""
        if self.over:
            return
        self.suspended = True
        self._cancel_timers()
        # A move that is being stored is waited for: after this, nothing is written and nobody is asked.
        async with self._lock:
            await self.chores.stop()
        self._around.spool.streams.forget_round(self.state.spec.job, self.state.round)
        self._chunks.clear()
        self.log.info("round suspended", phase=self.state.phase.value)
        self.closed.set()
        self._changes.notify()

    async def left(self, phase: Phase) -> None:
        """Return once the round is in another phase, or is not run here any more."""
        while not await self._changes.wait_until(
            lambda: self.suspended or self.state.phase is not phase, _LOOK_AGAIN_SECONDS
        ):
            pass

    def claim_chunks(self, client: ClientId, digests: tuple[bytes, ...]) -> None:
        """Take the chunks of a client's c1: none may be another's.

        Raises:
            FaultyClientError: a chunk is another client's.
            LateError: the uploads are closed.
        """
        if self.state.phase is not Phase.UPLOADING:
            raise LateError(f"the uploads of round {self.state.round} are closed")
        if any(self._chunks.get(digest, client) != client for digest in digests):
            raise FaultyClientError(client, "a chunk of its c1 is a copy of another client's")
        self._chunks.update(dict.fromkeys(digests, client))

    def recall_chunks(self, client: ClientId, digests: tuple[bytes, ...]) -> None:
        """Take the chunks of an upload that counted before the round was resumed."""
        self._chunks.update(dict.fromkeys(digests, client))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)
        return task

    async def _close(self) -> None:
        """Clean up after the end: work stopped, holders told, uploads deleted; what fails now is tried again later."""
        if self.closed.is_set():
            return
        self._cancel_timers()
        await self.chores.finish()
        faults.reach("end.holders-told")
        job, number, result = self.state.spec.job, self.state.round, self.state.result
        mean = None if result is None else mean_name(job, number, result.mean_digest)
        try:
            await asyncio.to_thread(clean_up, self._around, job, number, mean, self.ledger.lease)
        except Exception:
            self.log.exception("not cleaned up yet")
        self._chunks.clear()
        self._around.metrics.round_ended(self.state.phase, self.status.holders)
        self.closed.set()
        self._changes.notify()
