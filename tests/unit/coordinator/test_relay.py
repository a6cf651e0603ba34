"""The ceremony's relay, with the real machines of key holders behind it: what it makes, and whom it does without."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from coordinator.rounds.relay import make_key
from secagg.errors import ConflictError, FaultyKeyHolderError, RemoteError, UnreachableError
from secagg.ids import Digest, HolderId, JobId, RoundNumber
from secagg.messages.ceremony import Dealing, DealingBundle, KeyStatement, Trial, TrialBundle
from secagg.messages.round import HolderVerdict
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, CkksJob, Deadlines, JobSpec, TensorSpec
from secagg.policy import HolderPolicy
from secagg.roles.coordinator.events import KeyCertified, KeyFailed
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import (
    BeginCeremony,
    BlameAsked,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    Reply,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.state import CeremonyState, New
from tests.holder_material import signed

HOLDERS = tuple(HolderId(name) for name in ("north", "south", "east", "west", "centre"))
ROUND = RoundNumber(1)
SPEC = JobSpec(
    job=JobId("digits"),
    purpose="tests",
    tensors=(TensorSpec(name="w", shape=(10,), dtype="float32"),),
    protocol=CkksJob(holders=HOLDERS, min_holders=3, precision=1.0),
    min_contributors=2,
    max_clients=4,
    deadlines=Deadlines(keying_seconds=60),
)


@dataclass
class MachineHolder:
    """One holder's machine in place of a channel. What `says` alters is what the others see."""

    holder: HolderId
    states: dict[Digest, CeremonyState] = field(default_factory=dict)
    ended: list[Digest] = field(default_factory=list)
    attempts: int = 0

    def _step(self, digest: Digest, event: Any) -> Reply:
        try:
            step = ceremony.step(self.states[digest], event)
        except Exception as error:
            raise RemoteError(f"key holder {self.holder}", "it refused") from error
        self.states[digest] = step.state
        reply = step.effects[-1]
        assert isinstance(reply, Reply)
        return self.says(digest, reply)

    def says(self, _digest: Digest, reply: Reply) -> Reply:
        return reply

    async def begin_ceremony(self, plan: CeremonyPlan, *, timeout_seconds: float) -> Any:
        self.attempts += 1
        self.states[plan.digest] = New(holder=self.holder, policy=HolderPolicy())
        seed = hashlib.sha256(f"{self.holder}{plan.attempt}".encode()).digest()
        return signed(self._step(plan.digest, BeginCeremony(plan=plan, seed=seed)).message)

    async def commit_key(self, digest: Digest, hellos: Sequence[Any], *, timeout_seconds: float) -> Any:
        return signed(self._step(digest, HellosReceived(hellos=tuple(hellos))).message)

    async def deal_shares(self, digest: Digest, commitments: Sequence[Any], *, timeout_seconds: float) -> Any:
        reply = self._step(digest, CommitmentsReceived(commitments=tuple(commitments)))
        return DealingBundle(dealing=signed(reply.message), sealed=dict(reply.sealed))  # type: ignore[arg-type]

    async def try_key(self, digest: Digest, dealings: Sequence[Any], *, timeout_seconds: float) -> Any:
        assert all(set(bundle.sealed) == {self.holder} for bundle in dealings)
        reply = self._step(digest, DealingsReceived(dealings=tuple(dealings)))
        return TrialBundle(trial=signed(reply.message), answer=reply.attachment)  # type: ignore[arg-type]

    async def certify_key(self, digest: Digest, trials: Sequence[Any], *, timeout_seconds: float) -> Any:
        reply = self._step(digest, TrialsReceived(trials=tuple(trials)))
        statement: Authenticated[Any] = signed(reply.message)
        return statement, reply.attachment

    async def open_seed(self, digest: Digest, trials: Sequence[Any], *, timeout_seconds: float) -> Any:
        return signed(self._step(digest, SeedAsked(trials=tuple(trials))).message)

    async def lay_blame(
        self, digest: Digest, openings: Sequence[Any], dealings: Sequence[Any], *, timeout_seconds: float
    ) -> Any:
        event = BlameAsked(openings=tuple(openings), dealings=tuple(dealings))
        return signed(self._step(digest, event).message)

    async def end_round(self, digest: Digest, *, timeout_seconds: float) -> None:
        self.ended.append(digest)


class Unreachable(MachineHolder):
    async def begin_ceremony(self, plan: CeremonyPlan, *, timeout_seconds: float) -> Any:
        self.attempts += 1
        raise UnreachableError(f"key holder {self.holder}")


class Refusing(MachineHolder):
    async def begin_ceremony(self, plan: CeremonyPlan, *, timeout_seconds: float) -> Any:
        self.attempts += 1
        raise RemoteError(f"key holder {self.holder}", "it refused: the plan is weaker than its policy")


class Forging(MachineHolder):
    async def commit_key(self, digest: Digest, hellos: Sequence[Any], *, timeout_seconds: float) -> Any:
        raise FaultyKeyHolderError(self.holder, "its signature does not fit the message")


class AnswersWrongly(MachineHolder):
    """Its trial answer is off; its own machine believes in it."""

    def says(self, digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, Trial) or reply.message.complaint:
            return reply
        answer = bytes([reply.attachment[0] ^ 1]) + reply.attachment[1:]
        trial = replace(reply.message, answer_digest=hashlib.sha256(answer).digest())
        self.states[digest] = replace(self.states[digest], trial=trial, answer=answer)  # type: ignore[call-arg]
        return replace(reply, message=trial, attachment=answer)


class DealsWrongly(MachineHolder):
    """What it seals to one other holder cannot be opened."""

    def says(self, digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, Dealing):
            return reply
        victim = next(name for name in reply.sealed if name != self.holder)
        sealed = {**reply.sealed, victim: b"garbage"}
        digests = tuple(Digest(hashlib.sha256(part).digest()) for part in sealed.values())
        dealing = replace(reply.message, sealed_digests=digests)
        self.states[digest] = replace(self.states[digest], dealing=dealing, sealed=sealed)  # type: ignore[call-arg]
        return replace(reply, message=dealing, sealed=sealed)


class SendsOtherParts(MachineHolder):
    """What it hands over is not what it signed."""

    def says(self, digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, Dealing):
            return reply
        return replace(reply, sealed=dict.fromkeys(reply.sealed, b"garbage"))


class VouchesForAnother(MachineHolder):
    def says(self, _digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, KeyStatement):
            return reply
        return replace(reply, message=replace(reply.message, public_key_digest=Digest(bytes(32))))


def room(*kinds: type[MachineHolder]) -> dict[HolderId, MachineHolder]:
    chosen = [*kinds, *[MachineHolder] * (len(HOLDERS) - len(kinds))]
    return {holder: kind(holder) for holder, kind in zip(HOLDERS, chosen, strict=True)}


async def keyed(holders: dict[HolderId, MachineHolder]) -> KeyCertified | KeyFailed:
    return await make_key(holders, SPEC, ROUND)  # type: ignore[arg-type]


async def test_all_honest_holders_make_one_key() -> None:
    holders = room()
    event = await keyed(holders)
    assert isinstance(event, KeyCertified)
    assert event.plan.ckks.group.holders == HOLDERS
    assert {status.verdict for status in event.holders} == {HolderVerdict.OK}
    assert not any(holder.ended for holder in holders.values())


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (Unreachable, HolderVerdict.UNREACHABLE),
        (Refusing, HolderVerdict.SUSPECT),
        (Forging, HolderVerdict.FAULTY),
        (AnswersWrongly, HolderVerdict.FAULTY),
        (DealsWrongly, HolderVerdict.FAULTY),
        (SendsOtherParts, HolderVerdict.FAULTY),
        (VouchesForAnother, HolderVerdict.FAULTY),
    ],
)
async def test_the_next_attempt_does_without(kind: type[MachineHolder], verdict: HolderVerdict) -> None:
    holders = room(kind)
    event = await keyed(holders)
    assert isinstance(event, KeyCertified)
    assert event.plan.ckks.group.holders == HOLDERS[1:]
    verdicts = {status.holder: status.verdict for status in event.holders}
    assert verdicts == {HOLDERS[0]: verdict, **dict.fromkeys(HOLDERS[1:], HolderVerdict.OK)}
    assert holders[HOLDERS[0]].attempts == 1
    told = [holder for holder in HOLDERS if (holder, verdict) != (HOLDERS[0], HolderVerdict.UNREACHABLE)]
    assert {holder: len(one.ended) for holder, one in holders.items() if one.ended} == dict.fromkeys(told, 1)


async def test_a_holder_without_an_address_is_unreachable() -> None:
    holders = room()
    del holders[HOLDERS[4]]
    event = await keyed(holders)
    assert isinstance(event, KeyCertified)
    assert event.plan.ckks.group.holders == HOLDERS[:4]


class Restarted(MachineHolder):
    """It was killed inside its first attempts, of which it knows no more than that it begun them."""

    times = 1

    async def deal_shares(self, digest: Digest, commitments: Sequence[Any], *, timeout_seconds: float) -> Any:
        if self.attempts <= self.times:
            raise RemoteError(f"key holder {self.holder}", "it refused") from ConflictError(
                "it was restarted inside it"
            )
        return await super().deal_shares(digest, commitments, timeout_seconds=timeout_seconds)


class RestartedForEver(Restarted):
    times = 99


async def test_a_holder_that_was_restarted_takes_part_in_the_next_attempt() -> None:
    holders = room(Restarted)
    event = await keyed(holders)
    assert isinstance(event, KeyCertified)
    assert event.plan.ckks.group.holders == HOLDERS
    assert {status.verdict for status in event.holders} == {HolderVerdict.OK}
    assert {holder.attempts for holder in holders.values()} == {2}


async def test_a_holder_that_always_says_that_it_was_restarted_is_done_without() -> None:
    holders = room(RestartedForEver)
    event = await keyed(holders)
    assert isinstance(event, KeyCertified)
    assert event.plan.ckks.group.holders == HOLDERS[1:]
    assert {status.holder: status.verdict for status in event.holders}[HOLDERS[0]] is HolderVerdict.SUSPECT
    assert holders[HOLDERS[0]].attempts == 3


async def test_below_min_holders_there_is_no_key() -> None:
    event = await keyed(room(Unreachable, Unreachable, Refusing))
    assert isinstance(event, KeyFailed)
    assert (event.have, event.need) == (2, 3)
    verdicts = {status.holder: status.verdict for status in event.holders}
    assert verdicts[HOLDERS[0]] is HolderVerdict.UNREACHABLE
    assert verdicts[HOLDERS[2]] is HolderVerdict.SUSPECT


async def test_two_liars_in_two_ways() -> None:
    event = await keyed(room(AnswersWrongly, DealsWrongly))
    assert isinstance(event, KeyCertified)
    assert event.plan.ckks.group.holders == HOLDERS[2:]


async def test_a_ceremony_that_is_given_up_is_ended() -> None:
    class Silent(MachineHolder):
        async def deal_shares(self, digest: Digest, commitments: Sequence[Any], *, timeout_seconds: float) -> Any:
            waiting.set()
            await asyncio.sleep(timeout_seconds)

    waiting = asyncio.Event()
    holders = room(Silent)
    task = asyncio.create_task(keyed(holders))
    async with asyncio.timeout(20):
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert all(len(holder.ended) == 1 for holder in holders.values())
