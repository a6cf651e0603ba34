"""A coordinator in memory that keeps to the protocol: the real machine behind calls that clients make, with virtual time."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from he.errors import HEError
from he.packing import unpack_mean
from secagg.errors import LateError, WrongPhaseError
from secagg.ids import ClientId, Digest
from secagg.masking.masks import MaskedSum, piece_bytes, pieces
from secagg.masking.unmasking import UnmaskedRound, masks_in_sum, recover_secrets
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.round import Phase
from secagg.plan import RoundPlan
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import Effect, PublishResult, SetDeadline, SetGrace, UnmaskSum
from secagg.roles.coordinator.events import (
    CancelRequested,
    ConfirmationReceived,
    DeadlinePassed,
    Event,
    GraceOver,
    JoinReceived,
    SharesReceived,
    SumUnmasked,
    UnmaskingFailed,
    UnmaskingReceived,
    UploadRefused,
    VectorVerified,
)
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.masking.uploading import check_vector
from secagg.signing import SignedMessage
from tests.simulation.masking.parties import COORDINATOR, nonce_of, read, signed
from tests.simulation.network import Process

WAIT_SECONDS = 20.0
"""How long a call waits for something to show; then the caller asks again."""
LONGEST_RECOVERY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a client is shown of a round that goes on, or ended, without it."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Missed:
    """The round went on without the client's confirmation."""


SealedTo = tuple[tuple[ClientId, ...], Mapping[ClientId, bytes]]


class Desk(Protocol):
    """What clients call; None says that there is nothing to show yet."""

    process: Process
    plan: RoundPlan

    async def offer(self, client: ClientId) -> RoundPlan | Ended | None: ...
    async def join(self, message: SignedMessage) -> None: ...
    async def roster(self, client: ClientId) -> MaskingRoster | Ended | None: ...
    async def shares(self, message: SignedMessage) -> None: ...
    async def sharers(self, client: ClientId) -> SealedTo | Ended | None: ...
    async def upload(self, message: SignedMessage, vector: bytes) -> None: ...
    async def survivors(self, client: ClientId) -> tuple[ClientId, ...] | Ended | None: ...
    async def confirm(self, message: SignedMessage) -> None: ...
    async def confirmations(self, client: ClientId) -> tuple[SignedMessage, ...] | Ended | Missed | None: ...
    async def unmask(self, message: SignedMessage) -> None: ...
    async def result(self, client: ClientId) -> tuple[SignedMessage, bytes] | Ended | None: ...
    async def closed(self) -> None: ...


class HonestDesk:
    """One coordinator with one round; `faulty` are the clients that it found out.

    Args:
        plan: of the round.
        seed: decides how long a recovery takes.
        defects: collects what fails inside.
    """

    def __init__(self, plan: RoundPlan, seed: int, defects: list[str]) -> None:
        self.process = Process("the coordinator", defects)
        self.plan = plan
        self.faulty: set[ClientId] = set()
        self.vectors: dict[ClientId, bytes] = {}
        self.mean = b""
        self.quantised: Any = None
        self.signed_result: SignedMessage | None = None
        self.effects: list[Effect] = []
        self._defects = defects
        self._draws = random.Random(f"{seed}/desk")
        self._changed = asyncio.Event()
        self._timers: list[asyncio.TimerHandle] = []
        step = rules.begin(plan.spec, plan.round, nonce=nonce_of(plan))
        self.state: MaskingRoundState = step.state
        assert self.state.plan == plan
        self._carry_out(step.effects)

    def apply(self, event: Event) -> None:
        step = rules.step(self.state, event)
        self.state = step.state
        self._changed.set()
        self._changed = asyncio.Event()
        self._carry_out(step.effects)

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case SetDeadline():
                    self._later(effect.seconds, lambda phase=effect.phase: DeadlinePassed(phase=phase))
                case SetGrace():
                    self._later(effect.seconds, GraceOver)
                case UnmaskSum():
                    # What arrives while the recovery runs is no part of it.
                    opens = functools.partial(self._opened, self.state)
                    self._later(self._draws.uniform(0.0, LONGEST_RECOVERY_SECONDS), opens)
                case PublishResult():
                    self.signed_result = signed(effect.result, COORDINATOR)

    def _later(self, seconds: float, event: Callable[[], Event]) -> None:
        def report() -> None:
            try:
                self.apply(event())
            except WrongPhaseError:
                return  # the timer of a round that is over
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a defect
                self._defects.append(f"the coordinator failed inside: {error!r}")

        self._timers.append(asyncio.get_running_loop().call_later(seconds, report))

    async def stop(self) -> None:
        if not self.state.phase.ended:
            self.apply(CancelRequested(reason="the coordinator was stopped"))

    def _opened(self, state: MaskingRoundState) -> Event:
        round = unmasked_round(state)
        recovered = recover_secrets(round)
        if recovered.unopened:
            owners = ", ".join(state.clients[place] for place in sorted(recovered.unopened))
            return UnmaskingFailed(
                reason=f"the shares do not open the masks of {owners}", can_wait=True, used=len(state.unmaskings)
            )
        total, spec = MaskedSum(state.spec.masking_parameters), state.spec
        masks = masks_in_sum(round, recovered.secrets)
        for start, stop in pieces(spec.masking_parameters):
            begin, size = piece_bytes(start, stop, spec.masking_parameters)
            for client in state.survivors:
                total.add(start, stop, self.vectors[client][begin : begin + size])
            total.take_off(start, stop, masks)
        self.quantised = total.quantised()
        liars = tuple(state.clients[place] for place in sorted(recovered.liars))
        self.faulty |= set(liars)
        try:
            mean, weight = unpack_mean(total.values(len(state.survivors)), spec.layout, spec.clip, spec.max_weight)
        except HEError as error:
            return UnmaskingFailed(
                reason=f"the sum is implausible: {error}", can_wait=False, used=len(state.unmaskings)
            )
        ordered = (mean[tensor.name] for tensor in spec.tensors)
        self.mean = b"".join(one.astype(one.dtype.newbyteorder("<")).tobytes() for one in ordered)
        digest = Digest(hashlib.sha256(self.mean).digest())
        return SumUnmasked(total_weight=weight, mean_digest=digest, mean_bytes=len(self.mean), liars=liars)

    async def _until(self, *phases: Phase) -> bool:
        """Wait until the round is in one of these phases or over; say whether it came so far."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while self.state.phase not in phases and not self.state.phase.ended:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _ended(self) -> Ended:
        return Ended(reason=self.state.reason or "the round went on without this client")

    async def closed(self) -> None:
        while not self.state.phase.ended:
            await self._changed.wait()

    # what clients call

    async def offer(self, client: ClientId) -> RoundPlan | Ended | None:
        return self.plan if self.state.phase is Phase.OPEN else self._ended()

    async def join(self, message: SignedMessage) -> None:
        self.apply(JoinReceived(join=read(message, MaskingJoin)))

    async def roster(self, client: ClientId) -> MaskingRoster | Ended | None:
        if not await self._until(Phase.SHARING, Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING):
            return None
        return self.state.roster if client in self.state.joins and self.state.degree else self._ended()

    async def shares(self, message: SignedMessage) -> None:
        self.apply(SharesReceived(shares=read(message, Shares)))

    async def sharers(self, client: ClientId) -> SealedTo | Ended | None:
        if not await self._until(Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING):
            return None
        state = self.state
        return (state.sharers, state.sealed_to(client)) if client in state.sharers else self._ended()

    async def upload(self, message: SignedMessage, vector: bytes) -> None:
        upload = read(message, MaskedUpload)
        if check_vector(self.state, upload.message):
            return
        if hashlib.sha256(vector).digest() != upload.message.vector_digest:
            reason = "its bytes are not what it signed"
            self.apply(UploadRefused(client=upload.message.client, reason=reason))
            return
        self.vectors[upload.message.client] = vector
        self.apply(VectorVerified(upload=upload))

    async def survivors(self, client: ClientId) -> tuple[ClientId, ...] | Ended | None:
        if not await self._until(Phase.CONFIRMING, Phase.UNMASKING):
            return None
        return self.state.survivors if client in self.state.survivors else self._ended()

    async def confirm(self, message: SignedMessage) -> None:
        try:
            self.apply(ConfirmationReceived(confirmation=read(message, Confirmation)))
        except WrongPhaseError as error:
            raise LateError("the survivors were confirmed without this client") from error

    async def confirmations(self, client: ClientId) -> tuple[SignedMessage, ...] | Ended | Missed | None:
        if not await self._until(Phase.UNMASKING):
            return None
        if self.state.phase is Phase.ABORTED:
            return self._ended()
        if self.state.phase is Phase.PUBLISHED or client not in self.state.confirmations:
            return Missed()
        return tuple(one.signed for one in self.state.confirmations.values())

    async def unmask(self, message: SignedMessage) -> None:
        try:
            self.apply(UnmaskingReceived(unmasking=read(message, Unmasking)))
        except WrongPhaseError as error:
            raise LateError("the masks are off already") from error

    async def result(self, client: ClientId) -> tuple[SignedMessage, bytes] | Ended | None:
        if not await self._until():
            return None
        if self.state.phase is Phase.PUBLISHED and self.signed_result is not None:
            return self.signed_result, self.mean
        return self._ended()


def unmasked_round(state: MaskingRoundState) -> UnmaskedRound:
    places = state.neighbourhood.places
    return UnmaskedRound(
        plan_digest=state.certified.digest,
        roster_digest=state.frozen_digest,
        joins=[state.joins[client].message for client in state.clients],
        graph=np.asarray(state.neighbourhood.graph),
        threshold=state.threshold,
        sharers=frozenset(places[one] for one in state.sharers),
        survivors=frozenset(places[one] for one in state.survivors),
        revealed={places[one]: answer.message.shares for one, answer in state.unmaskings.items()},
    )
