"""One update in one round: the driver of the client's machine (docs/protocol.md, sections 5 and 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from secagg.client.calls import Coordinator
from secagg.client.ckks_steps import CkksSteps
from secagg.client.exchange import Exchange, Submission
from secagg.client.journal import Record
from secagg.client.keeping import Keeping
from secagg.client.kept_events import Context, Kind, event_of, masked_of, plan_of, record_of
from secagg.client.masking_steps import MaskingSteps
from secagg.client.progress import RoundResult
from secagg.client.spool import CiphertextSpool
from secagg.client.threads import in_thread
from secagg.client.updates import verify_fits
from secagg.coordinators import TRIED_AGAIN, told_by_peer
from secagg.errors import (
    PolicyError,
    RemoteError,
    RoundAbortedError,
    StorageError,
    UnknownRoundError,
    UsageError,
)
from secagg.ids import ClientId
from secagg.policy import ClientPolicy
from secagg.roles.client import rules
from secagg.roles.client.events import (
    AwaitResult,
    AwaitRound,
    BuildKey,
    DeliverResult,
    Effect,
    Event,
    Fail,
    JoinRefused,
    PlanOffered,
    SendJoin,
    SendUpload,
)
from secagg.roles.client.masking.events import (
    AwaitSurvivors,
    MaskingRosterFrozen,
    SendConfirmation,
    SendUnmasking,
    SendVector,
)
from secagg.tls_identity import TlsIdentity

_UPDATE_IS_OUT: Final = (SendUpload, SendVector, AwaitSurvivors, SendConfirmation, SendUnmasking, AwaitResult)
_NOTHING_SENT: Final = (UsageError, PolicyError, UnknownRoundError)
"""Errors that tell a caller that nothing of the update was sent. Which error a call ends with is the coordinator's to name."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where things wait.

    Attributes:
        spool: makes the file space that ciphertexts wait in.
        keeping: keeps a masking round while it runs.
    """

    spool: Callable[[], CiphertextSpool]
    keeping: Keeping


def _may_go_on(error: BaseException) -> bool:
    """Whether a round may be going on without this process, so that another one can take this client's part again."""
    if isinstance(error, StorageError):
        return told_by_peer(error)
    return isinstance(error, (*TRIED_AGAIN, asyncio.CancelledError))


class Participation:
    """Runs one submission; use it once.

    Args:
        coordinator: whom to call.
        identity: signs what is sent.
        policy: the weakest plan that is good enough, and what encrypts.
        storage: where things wait.
        submission: what is submitted.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        identity: TlsIdentity,
        policy: ClientPolicy,
        storage: Storage,
        submission: Submission,
    ) -> None:
        self._wanted = submission
        self._keeping = storage.keeping
        self._exchange = Exchange(coordinator, identity, submission)
        self._ckks = CkksSteps(self._exchange, storage.spool, policy.engine)
        self._masking = MaskingSteps(self._exchange, storage.keeping)
        self._roster: tuple[ClientId, ...] = ()
        self._step = rules.begin(
            client=ClientId(identity.party.name),
            coordinator=coordinator.party,
            policy=policy,
            job=submission.job,
            after_round=submission.after_round,
        )

    async def run(self) -> RoundResult:
        """Carry out what the machine asks for until there is a result.

        What becomes of a round on the way:

        - ``UnreachableError``, ``ElsewhereError``, ``BusyError`` and a ``StorageError`` of the coordinator are tried again, with
          the same request id, for as long as `Patience` has it. When one of them ends the call all the same, or it is
          cancelled, what a ``state_dir`` keeps of a masking round stays: another call goes on with it.
        - ``LateError`` and ``ConflictError`` at the join: a later round is awaited. Nothing of the update was sent.
        - Every other error, a ``StorageError`` of this machine among them, ends this client's part in the round, and nothing is
          left of it. ``ckks`` keeps nothing whatever happens: the ciphertext, and its commitment, go with the process.
        """
        try:
            records = await in_thread(self._keeping.open)
            await in_thread(self._verify_update, records)
            try:
                await in_thread(self._replay, records)
                result = await self._run()
            except BaseException as error:
                if not _may_go_on(error):
                    await in_thread(self._forget)
                raise
            await in_thread(self._forget)
            return result
        finally:
            self._ckks.close()
            self._keeping.close()

    def _verify_update(self, records: tuple[Record, ...]) -> None:
        """Refuse an update that a kept round will need and that does not fit it, while the round can still have another.

        Raises:
            UsageError: it does not fit; what is kept stays.
        """
        if self._goes_on(records) and not any(record.kind == Kind.MASKED for record in records):
            verify_fits(self._wanted.update, self._wanted.weight, plan_of(records[0]).spec)

    def _goes_on(self, records: tuple[Record, ...]) -> bool:
        return bool(records) and self._wanted.after_round < plan_of(records[0]).round

    def _forget(self) -> None:
        # A result, or a better reason to fail, matters more. What is left leads nowhere but to this end again.
        with suppress(StorageError):
            self._keeping.forget()

    async def _run(self) -> RoundResult:
        while True:
            (effect,) = self._step.effects
            if isinstance(effect, DeliverResult):
                return self._exchange.delivered(effect)
            event = await self._carried_out(effect)
            await in_thread(self._take, event)

    async def _carried_out(self, effect: Effect) -> Event:
        """Carry out an effect; no coordinator has it look as if nothing had been sent, and could be submitted again."""
        try:
            return await self._carry_out(effect)
        except _NOTHING_SENT as error:
            if not isinstance(effect, _UPDATE_IS_OUT):
                raise
            reason = f"it refuses what it was sent: {error.reason}"
            advice = "The update may count in that round; whether to submit it again is your decision"
            raise RemoteError(str(self._exchange.coordinator.party), reason, next_step=advice) from error

    async def _carry_out(self, effect: Effect) -> Event:
        match effect:
            case AwaitRound():
                return await self._exchange.await_round(effect)
            case AwaitResult():
                return await self._exchange.await_result(effect)
            case BuildKey() | SendJoin() | SendUpload():
                return await self._ckks.carry_out(effect)
            case Fail():
                raise RoundAbortedError(effect.reason, effect.have, effect.need)
            case DeliverResult():
                raise UsageError("the result was delivered")
            case _:
                return await self._masking.carry_out(effect)

    def _take(self, event: Event) -> None:
        """Lead the machine through an event, and keep it: before anything is sent that depends on it."""
        self._advance(event)
        if isinstance(event, JoinRefused):
            self._keeping.forget()
        record = record_of(event, self._context)
        if record is not None:
            self._keeping.note(record)

    def _advance(self, event: Event) -> None:
        self._step = rules.step(self._step.state, event)
        match event:
            case PlanOffered():
                self._exchange.plan, self._exchange.total = event.plan, 0
            case MaskingRosterFrozen():
                self._roster = event.roster.clients

    @property
    def _context(self) -> Context:
        exchange = self._exchange
        return Context(trust=exchange.identity.trust, roster=self._roster, clipped=exchange.clipped)

    def _replay(self, records: tuple[Record, ...]) -> None:
        """Stand where an earlier process stood that was killed, or lost the coordinator."""
        if not self._goes_on(records):
            if records:
                self._keeping.forget()
            return
        for record in records:
            self._advance(event_of(record, self._context))
            if record.kind == Kind.MASKED:
                masked, self._exchange.clipped = masked_of(record)
                self._exchange.resumed = True
                self._masking.resume(masked)
