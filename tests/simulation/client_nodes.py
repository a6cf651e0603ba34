"""Clients in a simulation: the real machine with all its checks, real signatures and ciphertexts, and clients that do wrong."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from secagg.client.progress import mean_from_bytes
from secagg.errors import BusyError, LateError, UnknownRoundError, UnreachableError, WrongPhaseError
from secagg.ids import ClientId, Digest
from secagg.messages.round import FrozenRoster, Half, Join, Result, Upload
from secagg.roles.client import rules
from secagg.roles.client.events import (
    AwaitResult,
    AwaitRound,
    BuildKey,
    CiphertextReady,
    DeliverResult,
    Effect,
    Event,
    Fail,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RosterFrozen,
    RoundEnded,
    SendJoin,
    SendUpload,
    UploadAccepted,
)
from secagg.signing import SignedMessage
from tests.pki_material import COORDINATOR
from tests.simulation.coordinator_node import CoordinatorNode, Ended, Offer
from tests.simulation.network import REFUSALS, Link
from tests.simulation.round_material import (
    CLIENTS,
    POLICY,
    SPEC,
    Ciphertext,
    bundle_as_read,
    client_party,
    encrypted,
    read,
    roster_as_read,
    signed_by,
)

T = TypeVar("T")
PAUSE_SECONDS, CALL_SECONDS, GRACE_SECONDS = 2.0, 40.0, 30.0


class ClientFate(Enum):
    """What becomes of a client; HONEST and LATE follow the protocol to its end."""

    HONEST = "honest"
    LATE = "comes when the round may be closed"
    ABSENT = "never comes"
    VANISHES_AFTER_JOIN = "is gone once it joined"
    VANISHES_AFTER_UPLOAD = "is gone once it uploaded"
    UPLOADS_TWICE = "uploads, and something else at the same time"
    UPLOADS_OTHER_BYTES = "sends other bytes than it signed"
    OPENS_OTHERWISE = "signs another opening than its commitment's"
    COPIES_COMMITMENT = "joins with the commitment of somebody else"
    MALFORMED = "commits to a residue above its prime"
    JOINS_AS_ANOTHER = "joins in the name of somebody else"


class VanishedError(Exception):
    """The client is gone."""


@dataclass
class Gossip:
    """What those who listen on the network see."""

    commitments: list[bytes] = field(default_factory=list)


class ClientNode:
    """One client with one update. `sent`: what it signed when it gave its ciphertext away, under which key and roster."""

    def __init__(self, client: ClientId, fate: ClientFate, desk: CoordinatorNode, link: Link, gossip: Gossip) -> None:
        self.client = client
        self.fate = fate
        self._desk = desk
        self._link = link
        self._gossip = gossip
        self._ciphertext: Ciphertext | None = None
        self._mean = b""
        self.result: Result | None = None
        self.error: Exception | None = None
        self.public_key_digest = b""
        self.sent: Upload | None = None
        self.roster: tuple[ClientId, ...] = ()

    @property
    def honest(self) -> bool:
        return self.fate in (ClientFate.HONEST, ClientFate.LATE)

    @property
    def mean(self) -> dict[str, npt.NDArray[Any]]:
        """What was delivered."""
        return mean_from_bytes(SPEC, self._mean)

    async def run(self, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        if self.fate is ClientFate.ABSENT:
            return
        try:
            self.result = await self._participate()
        except (*REFUSALS, VanishedError) as error:
            self.error = error

    async def _participate(self) -> Result:
        step = rules.begin(client=self.client, coordinator=COORDINATOR, policy=POLICY, job=SPEC.job, after_round=0)
        while True:
            (effect,) = step.effects
            if isinstance(effect, DeliverResult):
                return effect.result
            step = rules.step(step.state, await self._carry_out(effect))

    async def _carry_out(self, effect: Effect) -> Event:
        match effect:
            case AwaitRound():
                return await self._await_round(effect)
            case BuildKey():
                return self._encrypt(effect)
            case SendJoin():
                return await self._join(effect)
            case SendUpload():
                return await self._upload(effect)
            case AwaitResult():
                return await self._await_result()
            case Fail():
                raise RoundOverError(effect.reason)
            case DeliverResult():
                raise AssertionError("the result was delivered")

    async def _ask(self, handler: Callable[[], Awaitable[T]], seconds: float) -> T:
        """Call until there is an answer, or the time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            try:
                return await self._link.call(handler, timeout_seconds=CALL_SECONDS)
            except (UnreachableError, BusyError):
                if loop.time() >= end:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def _wait_for(self, handler: Callable[[], Awaitable[T | None]], seconds: float) -> T:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            answer = await self._ask(handler, seconds)
            if answer is not None:
                return answer
        raise RoundOverError(f"nothing was shown within {seconds:g} s")

    async def _await_round(self, effect: AwaitRound) -> PlanOffered:
        offer: Offer | Ended = await self._wait_for(
            lambda: self._desk.offer(self.client), SPEC.deadlines.keying_seconds
        )
        if isinstance(offer, Ended) or offer.plan.round <= effect.after_round:
            raise UnknownRoundError("there is no such round")
        return PlanOffered(plan=offer.plan, bundle=bundle_as_read(offer.bundle))

    def _encrypt(self, effect: BuildKey) -> CiphertextReady:
        self.public_key_digest = effect.public_key.digest()
        ciphertext = encrypted(effect.public_key, self.client)
        if self.fate is ClientFate.MALFORMED:
            c0 = ciphertext.halves[Half.C0]
            ciphertext = replace(ciphertext, halves={**ciphertext.halves, Half.C0: b"\xff\xff\xff\xff" + c0[4:]})
        self._ciphertext = ciphertext
        return CiphertextReady(
            nonce=ciphertext.nonce, root_c0=ciphertext.root(Half.C0), root_c1=ciphertext.root(Half.C1)
        )

    async def _join(self, effect: SendJoin) -> Event:
        signed = signed_by(client_party(self.client), self._bent_join(effect.join)).signed
        seconds = SPEC.deadlines.open_seconds + SPEC.deadlines.approving_seconds + GRACE_SECONDS
        try:
            await self._ask(lambda: self._desk.join(signed), seconds)
        except LateError:
            return JoinRefused()
        self._gossip.commitments.append(effect.join.commitment)
        if self.fate is ClientFate.VANISHES_AFTER_JOIN:
            raise VanishedError
        roster: FrozenRoster | Ended = await self._wait_for(lambda: self._desk.roster(self.client), seconds)
        if isinstance(roster, Ended):
            return RoundEnded(reason=roster.reason)
        self.roster = tuple(one.message.client for one in roster.joins)
        return RosterFrozen(roster=roster_as_read(roster))

    def _bent_join(self, join: Join) -> Join:
        if self.fate is ClientFate.COPIES_COMMITMENT:
            if not self._gossip.commitments:
                raise VanishedError
            return replace(join, commitment=self._gossip.commitments[0])
        if self.fate is ClientFate.JOINS_AS_ANOTHER:
            return replace(join, client=next(one for one in CLIENTS if one != self.client))
        return join

    async def _upload(self, effect: SendUpload) -> Event:
        try:
            if self.fate is ClientFate.UPLOADS_TWICE:
                await self._send_two(effect.upload)
            else:
                await self._send(effect.upload)
        except (LateError, WrongPhaseError) as error:
            return RoundEnded(reason=error.reason)
        if self.fate is ClientFate.VANISHES_AFTER_UPLOAD:
            raise VanishedError
        return UploadAccepted()

    async def _send(self, upload: Upload) -> None:
        assert self._ciphertext is not None
        self.sent = upload
        halves = self._ciphertext.halves
        if self.fate is ClientFate.OPENS_OTHERWISE:
            upload = replace(upload, nonce=bytes(32))
        if self.fate is ClientFate.UPLOADS_OTHER_BYTES:
            halves = {**halves, Half.C1: _rolled(halves[Half.C1])}
        signed = signed_by(client_party(self.client), upload).signed
        await self._ask(lambda: self._desk.upload(signed, halves), SPEC.deadlines.uploading_seconds + GRACE_SECONDS)

    async def _send_two(self, upload: Upload) -> None:
        """Send what was committed to and something else at once; whichever arrives first, the first of the two counts."""
        other = replace(upload, nonce=bytes(32))
        first, _ = await asyncio.gather(self._send(upload), self._send(other), return_exceptions=True)
        if first is not None:
            raise first

    async def _await_result(self) -> Event:
        seconds = SPEC.longest_seconds
        shown: tuple[SignedMessage, bytes] | Ended = await self._wait_for(
            lambda: self._desk.result(self.client), seconds
        )
        if isinstance(shown, Ended):
            return RoundEnded(reason=shown.reason)
        signed, self._mean = shown
        digest = Digest(hashlib.sha256(self._mean).digest())
        return ResultPublished(result=read(signed, Result), mean_digest=digest, mean_bytes=len(self._mean))


class RoundOverError(UnknownRoundError):
    """The round ended without a result for this client."""


def _rolled(half: bytes) -> bytes:
    """Return the residues of one half in another order within each prime."""
    rows = np.frombuffer(half, dtype="<u4").reshape(-1, SPEC.parameters(len(SPEC.ckks.holders)).degree)
    return np.roll(rows, 1, axis=1).tobytes()
