"""Holders that lie so that the coordinator stumbles, blames the wrong one, or cannot tell (docs/protocol.md, section 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from secagg.ids import Digest, KeyId
from secagg.messages.ceremony import Dealing, KeyStatement, SeedOpening, Trial
from secagg.messages.round import HolderVerdict
from secagg.roles.coordinator.events import KeyCertified, KeyFailed
from secagg.roles.key_holder.events import Reply
from tests.unit.coordinator.test_relay import HOLDERS, AnswersWrongly, MachineHolder, Unreachable, keyed, room


class LeavesAPartOut(MachineHolder):
    """It signs the digest of nothing for one holder, and sends that holder nothing."""

    def says(self, digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, Dealing):
            return reply
        victim = HOLDERS[1]
        digests = [hashlib.sha256(part).digest() for part in reply.sealed.values()]
        digests[HOLDERS.index(victim)] = hashlib.sha256(b"").digest()
        dealing = replace(reply.message, sealed_digests=tuple(Digest(one) for one in digests))
        sealed = {holder: part for holder, part in reply.sealed.items() if holder != victim}
        return replace(reply, message=dealing, sealed=sealed)


class OpensTheSeedOfAnotherKey(AnswersWrongly):
    def says(self, digest: Digest, reply: Reply) -> Reply:
        if isinstance(reply.message, SeedOpening):
            return replace(reply, message=replace(reply.message, key_id=KeyId(bytes(32))))
        return super().says(digest, reply)


class AnswersAtLength(MachineHolder):
    """Its answer is signed, and so long that nobody can be shown all answers in one message."""

    def says(self, _digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, Trial):
            return reply
        answer = reply.attachment + bytes(3 << 20)
        trial = replace(reply.message, answer_digest=Digest(hashlib.sha256(answer).digest()))
        return replace(reply, message=trial, attachment=answer)


class DealsNoResidues(MachineHolder):
    """Its b is no polynomial, and it says so nowhere."""

    def says(self, _digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, Dealing):
            return reply
        return replace(reply, message=replace(reply.message, b=b"\xff" * len(reply.message.b)))


class VouchesWithAnAccomplice(MachineHolder):
    """Two of these agree on another key; two honest holders are no majority against them."""

    def says(self, _digest: Digest, reply: Reply) -> Reply:
        if not isinstance(reply.message, KeyStatement):
            return reply
        message = replace(reply.message, public_key_digest=Digest(bytes(32)))
        return replace(reply, message=message, attachment=bytes(len(reply.attachment)))


def verdicts_of(event: KeyCertified | KeyFailed) -> dict[str, HolderVerdict]:
    return {status.holder: status.verdict for status in event.holders}


async def test_a_part_that_was_never_sent_is_its_dealers_fault() -> None:
    event = await keyed(room(LeavesAPartOut))
    assert isinstance(event, KeyCertified)
    assert verdicts_of(event)[HOLDERS[0]] is HolderVerdict.FAULTY


async def test_the_seed_of_another_key_hides_no_liar() -> None:
    event = await keyed(room(OpensTheSeedOfAnotherKey))
    assert isinstance(event, KeyCertified)
    assert verdicts_of(event)[HOLDERS[0]] is HolderVerdict.FAULTY


async def test_an_answer_that_is_too_long_is_not_passed_on() -> None:
    shown: list[int] = []

    class Watching(MachineHolder):
        async def certify_key(self, digest: Digest, trials: Sequence[Any], *, timeout_seconds: float) -> Any:
            shown.append(sum(len(trial.answer) for trial in trials))
            return await super().certify_key(digest, trials, timeout_seconds=timeout_seconds)

    event = await keyed(room(AnswersAtLength, Watching))
    assert isinstance(event, KeyCertified)
    assert verdicts_of(event)[HOLDERS[0]] is HolderVerdict.FAULTY
    assert max(shown) < 1 << 20


async def test_a_b_that_is_no_polynomial_is_its_dealers_fault() -> None:
    event = await keyed(room(DealsNoResidues))
    assert isinstance(event, KeyCertified)
    assert verdicts_of(event)[HOLDERS[0]] is HolderVerdict.FAULTY


async def test_half_of_the_holders_cannot_frame_the_other_half() -> None:
    event = await keyed(room(VouchesWithAnAccomplice, VouchesWithAnAccomplice, Unreachable))
    verdicts = verdicts_of(event)
    assert [verdicts[holder] for holder in HOLDERS[3:]] == [HolderVerdict.OK] * 2
    assert [verdicts[holder] for holder in HOLDERS[:2]] == [HolderVerdict.FAULTY] * 2


async def test_an_accident_of_the_coordinator_ends_the_ceremony_at_the_holders() -> None:
    class Astonishing(MachineHolder):
        async def deal_shares(self, digest: Digest, commitments: Sequence[Any], *, timeout_seconds: float) -> Any:
            raise KeyError("what nobody thought of")

    holders = room(Astonishing)
    try:
        await keyed(holders)
    except KeyError:
        assert all(len(holder.ended) == 1 for holder in holders.values())
    else:
        raise AssertionError("the accident was hidden")
