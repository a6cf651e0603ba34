"""One running round: the machine's state, one event at a time, and its effects in their order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

import structlog

from coordinator.contracts import mean_name
from coordinator.rounds.changes import Changes
from coordinator.rounds.chores import CkksChores
from coordinator.rounds.masking_chores import MaskingChores
from coordinator.rounds.record import Evidence, record_of, status_of
from coordinator.rounds.round_chores import RoundChores
from coordinator.rounds.surroundings import Surroundings
from secagg import codec
from secagg.errors import FaultyClientError, LateError
from secagg.identity import SignedMessage
from secagg.ids import NONCE_BYTES, ClientId, HolderId, RoundNumber
from secagg.messages.round import PartialStatement, Phase, RoundStatus
from secagg.messages.signed import Authenticated
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
from secagg.roles.coordinator.state import RoundState

_log: Final = structlog.get_logger("coordinator.round")
_LARGE_ROSTER: Final = 256
_LOOK_AGAIN_SECONDS: Final = 30.0


class LiveRound:
    """A round from its first event to its end; :meth:`apply` is the only way in.

    Args:
        spec: the job.
        round: its number, already taken in the store.
        around: what the driver works with.
        changes: told whenever the round changed.
    """

    def __init__(self, spec: JobSpec, round: RoundNumber, around: Surroundings, changes: Changes) -> None:
        self._around = around
        self._changes = changes
        self._lock = asyncio.Lock()
        self._moves: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._chunks: dict[bytes, ClientId] = {}
        self._result: SignedMessage | None = None
        self.statements: dict[HolderId, Authenticated[PartialStatement]] = {}
        self._first = rules.begin(spec, round, nonce=secrets.token_bytes(NONCE_BYTES))
        # The plan is shown once the round is stored, not before.
        self.state: RoundState = replace(self._first.state, plan=None)
        self._phase_started: dict[Phase, float] = {self.state.phase: around.clock()}
        masks = isinstance(self.state, MaskingRoundState)
        self.chores: RoundChores = MaskingChores(self, around) if masks else CkksChores(self, around)
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

    def _evidence(self) -> Evidence:
        return Evidence(phase_started=self._phase_started, statements=self.statements, result=self._result)

    async def begin(self) -> None:
        """Store the new round, set its first deadline, and start what it needs before clients can join."""
        step = self._first
        async with self._lock:
            await self._run_all(step.effects, step.state)
        self.chores.begin(step.state)

    async def apply(self, event: Event) -> None:
        """Apply an event and run its effects to their end, even when the caller goes away.

        Raises:
            SecAggError: the machine refuses the event, or the state cannot be stored; nothing has changed.
        """
        move = self._spawn(self._locked(event))
        try:
            await asyncio.shield(move)
        except asyncio.CancelledError:
            move.add_done_callback(self._note_unheard)
            raise

    def _note_unheard(self, move: asyncio.Task[None]) -> None:
        """Read what became of an event whose caller is gone: an error that nobody reads is logged as a defect of ours."""
        error = None if move.cancelled() else move.exception()
        if error is not None:
            self.log.info("event refused, its caller is gone", cause=str(error))

    async def _locked(self, event: Event) -> None:
        async with self._lock:
            await self._step(event)

    async def _step(self, event: Event) -> None:
        step = rules.step(self.state, event)
        await self._run_all(step.effects, step.state)

    async def _run_all(self, effects: tuple[Effect, ...], state: RoundState) -> None:
        for effect in effects:
            await self._run(effect, state)

    async def _run(self, effect: Effect, state: RoundState) -> None:
        match effect:
            case PublishResult():
                self._result = codec.sign(effect.result, self._around.identity.signer)
            case StoreRound():
                await self._store(state)
            case SetDeadline():
                self._set_timer("deadline", effect.seconds, DeadlinePassed(phase=effect.phase))
            case SetGrace():
                self._set_timer("grace", effect.seconds, GraceOver())
            case Audit():
                await self._audit(effect)
            case AbortRound():
                self.log.warning("round aborted", reason=effect.reason, have=effect.have, need=effect.need)
            case DeleteUploads():
                self._spawn(self._close())
            case _:
                self.chores.delegate(effect, state)

    async def _store(self, state: RoundState) -> None:
        started = self._phase_started
        if state.phase not in started:
            started = {**started, state.phase: self._around.clock()}
        if self._worth_storing(state):
            record = record_of(state, replace(self._evidence(), phase_started=started))
            await asyncio.to_thread(self._around.store.save_round, record)
        self._phase_started = started
        self._move_to(state)

    def _worth_storing(self, state: RoundState) -> bool:
        """Whether to write: a round that is cut off is aborted at the next start, so a large roster waits for its phase's end."""
        return state.phase is not self.state.phase or len(state.joins) <= _LARGE_ROSTER

    def _move_to(self, state: RoundState) -> None:
        left, self.state = self.state.phase, state
        if left is not state.phase:
            seconds = self._phase_started[state.phase] - self._phase_started[left]
            self._around.metrics.phase_left(left, seconds)
            self.log.info("phase", phase=state.phase.value, seconds_before=round(seconds, 3))
            self._cancel_timers()
            self.chores.phase_entered(state)
        self._changes.notify()

    async def _audit(self, effect: Audit) -> None:
        details = dict(effect.details)
        job, number = self.state.spec.job, self.state.round
        await asyncio.to_thread(self._around.store.audit, job, number, effect.event, details, self._around.clock())
        self.log.info(effect.event, **details)

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
        self._spawn(self._reported(event, phase))

    async def _reported(self, event: Event, phase: Phase) -> None:
        try:
            async with self._lock:
                # A timer that fires while a client's event ends the phase comes too late, and is no failure.
                if self.state.phase is phase:
                    await self._step(event)
        except Exception as error:
            if self.state.phase.ended:
                return
            self.log.exception("round failed inside", happening=type(event).__name__)
            await self.give_up(f"the coordinator failed: {type(error).__name__}")

    async def give_up(self, reason: str) -> None:
        """End the round, in memory if the store does not take it."""
        try:
            await self.apply(CancelRequested(reason=reason))
        except Exception:
            self.log.exception("end of the round not stored")
            if not self.state.phase.ended:
                self._phase_started[Phase.ABORTED] = self._around.clock()
                self._move_to(rules.aborted(self.state, reason))
                await self._close()

    async def left(self, phase: Phase) -> None:
        """Return once the round is in another phase."""
        while not await self._changes.wait_until(lambda: self.state.phase is not phase, _LOOK_AGAIN_SECONDS):
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

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)
        return task

    async def _close(self) -> None:
        """Clean up after the end: work stopped, holders told, uploads deleted."""
        if self.closed.is_set():
            return
        self._cancel_timers()
        await self.chores.finish()
        job, number = self.state.spec.job, self.state.round
        try:
            await asyncio.to_thread(self._around.spool.delete_round, job, number)
            if self.state.phase is Phase.ABORTED:
                await asyncio.to_thread(self._around.blobs.delete_prefix, mean_name(job, number))
        except Exception:
            self.log.exception("uploads not deleted")
        self._chunks.clear()
        self._around.metrics.round_ended(self.state.phase, self.status.holders)
        self.closed.set()
        self._changes.notify()
