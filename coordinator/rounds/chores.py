"""What a ``ckks`` round has done by others: the ceremony, the holders' answers, the recovery. Each reports back as an event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from coordinator.rounds.asking import ask_approval, fetch_answer, persevering
from coordinator.rounds.calls import ApprovalRequest, DecryptionRequest, KeyHolderCalls
from coordinator.rounds.protocols import ckks_state
from coordinator.rounds.recovery import SpooledAnswer, SumRecovery
from coordinator.rounds.relay import end_ceremony, make_key
from coordinator.rounds.round_chores import RoundChores
from coordinator.rounds.surroundings import Surroundings
from coordinator.spool import answer_blob
from coordinator.streams import UploadKey
from he.ciphertext import half_chunk_bytes
from secagg import faults
from secagg.errors import (
    ElsewhereError,
    FaultyKeyHolderError,
    RemoteError,
    SecAggError,
    StorageError,
    UnreachableError,
    WrongPhaseError,
)
from secagg.ids import HolderId
from secagg.messages.round import HolderVerdict, PartialStatement, Phase
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan
from secagg.roles.coordinator.effects import AskApprovals, AskDecryption, AskSeals, Effect, EndHolders, OpenSum
from secagg.roles.coordinator.events import (
    AnswerReceived,
    ApprovalReceived,
    HolderLost,
    HolderSilent,
    OpeningFailed,
    SealReceived,
    SumOpened,
)
from secagg.roles.coordinator.state import CkksRoundState, RoundState

if TYPE_CHECKING:
    from coordinator.rounds.live import LiveRound


class CkksChores(RoundChores):
    """The tasks of one ``ckks`` round."""

    def __init__(self, live: LiveRound, around: Surroundings) -> None:
        super().__init__(live, around)
        self._to_end: tuple[HolderId, ...] = ()

    def begin(self, state: RoundState) -> None:
        """Have a key made."""
        self.make_key(ckks_state(state))

    def delegate(self, effect: Effect, state: RoundState) -> None:
        """Ask the holders, or open the sum."""
        round = ckks_state(state)
        match effect:
            case AskSeals():
                self.ask_seals(round, effect)
            case AskApprovals():
                self.ask_approvals(round, effect)
            case AskDecryption():
                self.ask_decryption(round, effect)
            case OpenSum():
                self.open_sum(round, effect)
            case EndHolders():
                self.end_holders(effect.holders)
            case _:
                raise AssertionError(f"a ckks round asks for no {type(effect).__name__}")

    def phase_entered(self, state: RoundState) -> None:
        """Nothing: effects ask for all that is done."""

    def make_key(self, state: CkksRoundState) -> None:
        """Run ceremonies until there is a key."""
        self._start(lambda: self._make_key(state), "making a key")

    async def _make_key(self, state: CkksRoundState) -> None:
        made = ckks_state(self._live.state)
        if made.attempt:
            # An attempt of a former process came to nothing: the secrets of its answers are the holders' alone.
            begun = CeremonyPlan(
                spec=state.spec, round=state.round, attempt=made.attempt, group=state.spec.ckks.group(made.invited)
            )
            await end_ceremony(self._around.holders, begun.digest, made.invited)
        event = await make_key(
            self._around.holders, state.spec, state.round, after_attempt=made.attempt, begun=self._tell
        )
        await self._tell(event)

    async def recall(self, state: RoundState) -> None:
        """Set the space of the ciphertexts aside again, and know the chunks that count."""
        round, spool = ckks_state(state), self._around.spool
        if round.plan is None:
            return
        parameters = round.certified.parameters
        bound = parameters.chunks * half_chunk_bytes(parameters)
        more = len(round.joins) - len(round.refused) if state.phase is Phase.UPLOADING else 0
        await asyncio.to_thread(spool.recall, state.spec.job, state.round, bound, clients=more)
        if state.phase is Phase.UPLOADING:
            for client in round.contributors:
                key = UploadKey(job=state.spec.job, round=state.round, client=client)
                self._live.recall_chunks(client, await self._computed(spool.chunk_digests, key, parameters))

    def ask_seals(self, state: CkksRoundState, effect: AskSeals) -> None:
        """Ask all holders at once; what comes, or fails, after the quorum decides nothing."""
        for holder in effect.holders:
            self._start(partial(self._ask_seal, state, holder, effect), "asking for a seal")

    async def _ask_seal(self, state: CkksRoundState, holder: HolderId, effect: AskSeals) -> None:
        # Little is sent, so that both tries fit into the phase.
        plan, seconds = state.certified, state.spec.deadlines.approving_seconds / 3

        async def ask(calls: KeyHolderCalls) -> None:
            faults.reach("seal.asking")
            seal = await persevering(
                lambda: calls.seal_roster(plan, effect.roster, timeout_seconds=seconds),
                partial(self._silent, holder, phase=Phase.FROZEN),
            )
            await self._tell(SealReceived(seal=seal))

        await self._with(holder, ask, phase=Phase.FROZEN)

    def ask_approvals(self, state: CkksRoundState, effect: AskApprovals) -> None:
        """Ask all holders at once."""
        request = ApprovalRequest(plan=state.certified, roster=state.roster, uploads=effect.uploads)
        for holder in effect.holders:
            self._start(partial(self._ask_approval, holder, request), "asking for an approval")

    async def _ask_approval(self, holder: HolderId, request: ApprovalRequest) -> None:
        seconds = request.plan.spec.deadlines.approving_seconds

        async def ask(calls: KeyHolderCalls) -> None:
            faults.reach("approval.asking")
            approval = await ask_approval(
                calls, self._around.blobs, request, timeout_seconds=seconds, on_silence=partial(self._silent, holder)
            )
            await self._tell(ApprovalReceived(approval=approval))

        await self._with(holder, ask)

    def ask_decryption(self, state: CkksRoundState, effect: AskDecryption) -> None:
        """Ask holders for their answers at once."""
        if state.request_digest is None:
            raise AssertionError("nothing is decrypted before the uploads are closed")
        request = DecryptionRequest(
            key_id=state.certified.ckks.key_id, request_digest=state.request_digest, approvals=effect.approvals
        )
        for holder in effect.holders:
            self._start(partial(self._fetch_answer, state, holder, request), "fetching an answer")

    async def _fetch_answer(self, state: CkksRoundState, holder: HolderId, request: DecryptionRequest) -> None:
        blob = answer_blob(state.spec.job, state.round, holder, self._live.ledger.token)

        async def answer(calls: KeyHolderCalls) -> Authenticated[PartialStatement]:
            faults.reach("answer.asking")
            return await fetch_answer(
                calls,
                self._around.blobs,
                request,
                parameters=state.certified.parameters,
                blob=blob,
                timeout_seconds=state.spec.deadlines.decrypting_seconds,
                on_silence=partial(self._silent, holder),
            )

        async def fetch(calls: KeyHolderCalls) -> None:
            try:
                statement = await answer(calls)
            except RemoteError as error:
                if not isinstance(error.__cause__, WrongPhaseError):
                    raise
                # It has lost the sum that it approved, and adds it up again.
                await self._show_again(state, holder, calls)
                statement = await answer(calls)
            faults.reach("answer.spooled")
            await self._tell(AnswerReceived(holder=holder, blob=blob, statement=statement))

        await self._with(holder, fetch)

    async def _show_again(self, state: CkksRoundState, holder: HolderId, calls: KeyHolderCalls) -> None:
        request = ApprovalRequest(plan=state.certified, roster=state.roster, uploads=state.contributions)
        seconds = state.spec.deadlines.decrypting_seconds
        await ask_approval(
            calls, self._around.blobs, request, timeout_seconds=seconds, on_silence=partial(self._silent, holder)
        )

    async def _with(
        self, holder: HolderId, ask: Callable[[KeyHolderCalls], Awaitable[None]], *, phase: Phase | None = None
    ) -> None:
        """Ask a holder; whatever goes wrong, in ``phase`` where one is given, becomes a verdict with its reason."""
        try:
            await ask(self._calls(holder))
        except (StorageError, ElsewhereError):
            # Ours, not the holder's.
            raise
        except WrongPhaseError:
            self._live.log.info("holder came too late", holder=holder)
        except UnreachableError as error:
            await self._lost(holder, HolderVerdict.UNREACHABLE, error, phase=phase)
        except FaultyKeyHolderError as error:
            await self._lost(holder, HolderVerdict.FAULTY, error, phase=phase)
        except SecAggError as error:
            await self._lost(holder, HolderVerdict.SUSPECT, error, phase=phase)

    def _calls(self, holder: HolderId) -> KeyHolderCalls:
        calls = self._around.holders.get(holder)
        if calls is None:
            raise UnreachableError(f"key holder {holder}", "the coordinator has no address of it")
        return calls

    async def _silent(self, holder: HolderId, error: UnreachableError, *, phase: Phase | None = None) -> None:
        self._verify_still(phase)
        self._live.log.warning("holder unreachable, asking again", holder=holder, cause=str(error))
        await self._tell(HolderSilent(holder=holder, reason=error.cause))

    def _verify_still(self, phase: Phase | None) -> None:
        """Raise `WrongPhaseError` once the phase has gone by in which something was asked for."""
        if phase not in (None, self._live.state.phase):
            raise WrongPhaseError("the round has gone on without it")

    async def _lost(self, holder: HolderId, verdict: HolderVerdict, error: SecAggError, *, phase: Phase | None) -> None:
        try:
            self._verify_still(phase)
            self._live.log.warning("holder lost", holder=holder, verdict=verdict.value, cause=str(error))
            await self._tell(HolderLost(holder=holder, verdict=verdict, reason=error.cause))
        except WrongPhaseError:
            self._live.log.info("round was over before", holder=holder)

    def open_sum(self, state: CkksRoundState, effect: OpenSum) -> None:
        """Recover the sum in an executor."""
        self._start(partial(self._open_sum, state, effect), "opening the sum")

    async def _open_sum(self, state: CkksRoundState, effect: OpenSum) -> None:
        plan = state.certified
        total = self._around.spool.total(plan.spec.job, plan.round, plan.parameters, state.contributors)
        answers = tuple(SpooledAnswer(holder=holder, blob=state.answers[holder].blob) for holder in effect.holders)
        recovery = SumRecovery(plan, total, answers)
        event: SumOpened | OpeningFailed = await self._computed(recovery.open, self._around.blobs)
        if event.liars:
            self._live.log.warning("holders faulty: their answers are wrong", holders=event.liars)
        if isinstance(event, OpeningFailed):
            self._live.log.warning("sum not opened", reason=event.reason, suspects=event.suspects)
        await self._tell(event)

    def end_holders(self, holders: tuple[HolderId, ...]) -> None:
        """Remember whom to tell of the end."""
        self._to_end = holders

    async def finish(self) -> None:
        """Stop what still runs, then tell the holders."""
        await super().finish()
        key = ckks_state(self._live.state).key
        if key is not None:
            await end_ceremony(self._around.holders, key.plan.digest, self._to_end)
