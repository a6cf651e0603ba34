"""Clients of simulated masking rounds: the real machine with all its checks, and clients that vanish, restart or do wrong."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from secagg.errors import BusyError, LateError, UnreachableError, WrongPhaseError
from secagg.ids import ClientId, Digest
from secagg.masking.masks import Masks, masked_pieces
from secagg.messages.masking import Confirmation, MaskedUpload, Unmasking
from secagg.messages.round import Result
from secagg.plan import JobSpec, RoundPlan
from secagg.roles.client import rules
from secagg.roles.client.events import (
    AwaitResult,
    AwaitRound,
    DeliverResult,
    Effect,
    Event,
    Fail,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RoundEnded,
)
from secagg.roles.client.masking.events import (
    AwaitSurvivors,
    ConfirmationsShown,
    DrawSecrets,
    MaskingRosterFrozen,
    MaskUpdate,
    SecretsDrawn,
    SendConfirmation,
    SendMaskingJoin,
    SendShares,
    SendUnmasking,
    SendVector,
    SharesShown,
    SurvivorsShown,
    TurnMissed,
    UnmaskingAccepted,
    VectorAccepted,
    VectorMasked,
)
from secagg.roles.client.masking.state import Confirming, Sharing
from secagg.roles.client.state import ClientState
from secagg.signing import SignedMessage
from tests.simulation.masking.desk import Desk, Ended, Missed
from tests.simulation.masking.fates import CORRUPT, CrashError, Fate, RoundOverError, VanishedError, bent_shares
from tests.simulation.masking.parties import COORDINATOR, party, policy_of, read, roster_as_read, signed, vector_of
from tests.simulation.network import REFUSALS, Link

T = TypeVar("T")
PAUSE_SECONDS, CALL_SECONDS, GRACE_SECONDS = 2.0, 40.0, 30.0


class ClientNode:
    """One client with one update.

    Attributes:
        sharing: the machine's state once the shares were made: roster, graph and secrets.
        masks: on the one vector, once that may have left.
        vector: the bytes that were sent.
        said: every message that was sent, by kind: two of one kind are two faces.
        confirming: the state with the one set of survivors, once it was signed.
        unmaskings: what was revealed, with the survivors that it was revealed for.
    """

    def __init__(self, client: ClientId, fate: Fate, desk: Desk, link: Link, spec: JobSpec, seed: int) -> None:
        self.client, self.fate, self.spec = client, fate, spec
        self._desk, self._link = desk, link
        self._draws = random.Random(f"{seed}/{client}")
        self._journal: list[Event] = []
        self._kept = b""
        self.mean = b""
        self.sharing: Sharing | None = None
        self.masks: Masks | None = None
        self.noise_key = b""
        self.vector: bytes | None = None
        self.said: dict[type, set[object]] = {}
        self.confirming: Confirming | None = None
        self.unmaskings: list[tuple[Unmasking, tuple[ClientId, ...]]] = []
        self.result: Result | None = None
        self.error: Exception | None = None
        self.states: list[ClientState] = []
        self.dies_at: tuple[float, ...] = ()

    @property
    def corrupt(self) -> bool:
        return self.fate in CORRUPT

    async def run(self, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        if self.fate is Fate.ABSENT:
            return
        try:
            self.result = await self._live()
        except (*REFUSALS, VanishedError) as error:
            self.error = error

    async def _live(self) -> Result:
        for at in self.dies_at:
            try:
                return await self._until(at)
            except CrashError:
                await asyncio.sleep(self._draws.uniform(0.1, 20.0))
                if self.fate is Fate.FORGETS:
                    self._journal.clear()
        return await self._participate()

    async def _until(self, seconds: float) -> Result:
        """Take part until the process dies at this time."""
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(self._participate())
        done, _ = await asyncio.wait([work], timeout=max(0.0, seconds - loop.time()))
        if done:
            return work.result()
        work.cancel()
        await asyncio.wait([work])
        raise CrashError

    def _replayed(self) -> tuple[ClientState, Effect]:
        """Begin, or go on where the journal ends."""
        step = rules.begin(
            client=self.client, coordinator=COORDINATOR, policy=policy_of(self.spec), job=self.spec.job, after_round=0
        )
        for event in self._journal:
            step = rules.step(step.state, event)
        (effect,) = step.effects
        return step.state, effect

    async def _participate(self) -> Result:
        state, effect = self._replayed()
        while not isinstance(effect, DeliverResult):
            event = await self._carry_out(state, effect)
            step = rules.step(state, event)
            # Kept before anything is sent: whoever comes back sends the same, or nothing.
            self._journal.append(event)
            state, (effect,) = step.state, step.effects
            self.states.append(state)
        return effect.result

    async def _carry_out(self, state: ClientState, effect: Effect) -> Event:
        if isinstance(effect, Fail):
            raise RoundOverError(effect.reason)
        does: dict[type, Callable[[Any, Any], Awaitable[Event]]] = {
            AwaitRound: self._await_round,
            DrawSecrets: self._draw,
            SendMaskingJoin: self._join,
            SendShares: self._share,
            MaskUpdate: self._mask,
            SendVector: self._upload,
            AwaitSurvivors: self._await_survivors,
            SendConfirmation: self._confirm,
            SendUnmasking: self._unmask,
            AwaitResult: self._await_result,
        }
        return await does[type(effect)](state, effect)

    # calls

    async def _ask(self, handler: Callable[[], Awaitable[T]]) -> T:
        """Call until there is an answer, or the time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.spec.longest_seconds
        while True:
            try:
                return await self._link.call(handler, timeout_seconds=CALL_SECONDS)
            except (UnreachableError, BusyError):
                if loop.time() >= end:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def _wait_for(self, handler: Callable[[], Awaitable[T | Ended | None]]) -> T | RoundEnded:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.spec.longest_seconds
        while loop.time() < end:
            answer = await self._ask(handler)
            if isinstance(answer, Ended):
                return RoundEnded(reason=answer.reason)
            if answer is not None:
                return answer
        return RoundEnded(reason="nothing was shown in time")

    async def _send(self, message: Any, call: Callable[[SignedMessage], Awaitable[None]]) -> None:
        self.said.setdefault(type(message), set()).add(message)
        statement = signed(message, party(self.client))
        await self._ask(lambda: call(statement))

    def _leave_if(self, *fates: Fate) -> None:
        if self.fate in fates:
            raise VanishedError

    async def _await_round(self, _state: ClientState, _effect: AwaitRound) -> Event:
        offer: RoundPlan | RoundEnded = await self._wait_for(lambda: self._desk.offer(self.client))
        if isinstance(offer, RoundEnded):
            raise RoundOverError(offer.reason)
        return PlanOffered(plan=offer, bundle=None)

    async def _draw(self, _state: ClientState, _effect: DrawSecrets) -> Event:
        return SecretsDrawn(master_seed=self._draws.randbytes(32))

    async def _await_survivors(self, _state: ClientState, _effect: AwaitSurvivors) -> Event:
        shown = await self._wait_for(lambda: self._desk.survivors(self.client))
        return shown if isinstance(shown, RoundEnded) else SurvivorsShown(survivors=shown)

    async def _join(self, _state: ClientState, effect: SendMaskingJoin) -> Event:
        try:
            await self._send(effect.join, self._desk.join)
        except LateError:
            return JoinRefused()
        except WrongPhaseError as error:
            return RoundEnded(reason=error.reason)
        self._leave_if(Fate.GONE_BEFORE_SHARES)
        roster = await self._wait_for(lambda: self._desk.roster(self.client))
        return roster if isinstance(roster, RoundEnded) else MaskingRosterFrozen(roster=roster_as_read(roster))

    async def _share(self, state: Sharing, effect: SendShares) -> Event:
        self.sharing = state
        try:
            await self._send(bent_shares(self.fate, self._draws, state, effect.shares), self._desk.shares)
        except (LateError, WrongPhaseError) as error:
            return RoundEnded(reason=error.reason)
        self._leave_if(Fate.GONE_AFTER_SHARES)
        shown = await self._wait_for(lambda: self._desk.sharers(self.client))
        return shown if isinstance(shown, RoundEnded) else SharesShown(sharers=shown[0], sealed=shown[1])

    async def _mask(self, _state: ClientState, effect: MaskUpdate) -> Event:
        self.masks, self.noise_key = effect.masks, effect.noise_key
        parameters = self.spec.masking_parameters
        if self.fate is Fate.GARBAGE_VECTOR:
            bits = self._draws.randbytes(parameters.vector_bytes - 1)
            self._kept = bits + b"\x00"
        else:
            vector = vector_of(self.client, self.spec)
            self._kept = b"".join(masked_pieces(vector, parameters, effect.masks, effect.noise_key))
        return VectorMasked(vector_digest=Digest(hashlib.sha256(self._kept).digest()), vector_bytes=len(self._kept))

    async def _upload(self, _state: ClientState, effect: SendVector) -> Event:
        data = self._kept if self.fate is not Fate.OTHER_BYTES else bytes(len(self._kept))
        self.vector = data
        statement = signed(effect.upload, party(self.client))
        self.said.setdefault(MaskedUpload, set()).add(effect.upload)
        if self.fate is Fate.LATE_VECTOR:
            await asyncio.sleep(self.spec.deadlines.uploading_seconds + 1.0)
        if self.fate is Fate.GONE_IN_UPLOAD:
            await self._upload_half(statement, data)
        try:
            await self._ask(lambda: self._desk.upload(statement, data))
        except (LateError, WrongPhaseError) as error:
            return RoundEnded(reason=error.reason)
        self._leave_if(Fate.GONE_BEFORE_CONFIRM)
        return VectorAccepted()

    async def _upload_half(self, statement: SignedMessage, data: bytes) -> None:
        """Half of such clients get their vector through, and are gone before they hear of it."""
        if self._draws.random() < 0.5:
            work = asyncio.ensure_future(self._ask(lambda: self._desk.upload(statement, data)))
            await asyncio.wait([work], timeout=self._draws.uniform(0.0, 10.0))
            work.cancel()
        raise VanishedError

    async def _confirm(self, state: Confirming, effect: SendConfirmation) -> Event:
        self.confirming = state
        confirmation: Confirmation = effect.confirmation
        if self.fate is Fate.CONFIRMS_ANOTHER:
            confirmation = replace(confirmation, survivors_digest=Digest(bytes(32)))
        try:
            await self._send(confirmation, self._desk.confirm)
        except LateError:
            return TurnMissed()
        except WrongPhaseError as error:
            return RoundEnded(reason=error.reason)
        self._leave_if(Fate.GONE_BEFORE_UNMASK)
        shown = await self._wait_for(lambda: self._desk.confirmations(self.client))
        if isinstance(shown, RoundEnded):
            return shown
        if isinstance(shown, Missed):
            return TurnMissed()
        return ConfirmationsShown(confirmations=tuple(read(one, Confirmation) for one in shown))

    async def _unmask(self, _state: ClientState, effect: SendUnmasking) -> Event:
        unmasking = effect.unmasking
        if self.fate is Fate.REVEALS_WRONG:
            unmasking = replace(unmasking, shares=tuple(bytes(36) if one else b"" for one in unmasking.shares))
        if self.fate is Fate.REVEALS_OTHER:
            unmasking = replace(unmasking, shares=(*unmasking.shares[:-1], b"no share"))
        assert self.confirming is not None
        self.unmaskings.append((unmasking, self.confirming.survivors))
        try:
            await self._send(unmasking, self._desk.unmask)
        except (LateError, WrongPhaseError):
            return UnmaskingAccepted()
        return UnmaskingAccepted()

    async def _await_result(self, _state: ClientState, _effect: AwaitResult) -> Event:
        shown = await self._wait_for(lambda: self._desk.result(self.client))
        if isinstance(shown, RoundEnded):
            return shown
        statement, self.mean = shown
        digest = Digest(hashlib.sha256(self.mean).digest())
        return ResultPublished(result=read(statement, Result), mean_digest=digest, mean_bytes=len(self.mean))
