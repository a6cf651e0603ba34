"""Ways in which a key holder can lie in a ceremony, each as a change to an honest room."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from he import ceremony as steps
from secagg import transcript
from secagg.ids import Digest, HolderId
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment, Trial
from secagg.messages.signed import Authenticated
from secagg.roles.key_holder.dealings import deal_to_all
from secagg.roles.key_holder.events import (
    Reply,
)
from secagg.roles.key_holder.sealing import seal
from secagg.roles.key_holder.state import Dealt
from tests.holder_material import HolderRoom, Lie, ceremony_plan, job_spec, signed, with_changes

SIZES = [(3, 2), (5, 3)]
NORTH, EAST, SOUTH = (HolderId(name) for name in ("north", "east", "south"))


def room_of(holders: int = 3, threshold: int = 2) -> HolderRoom:
    return HolderRoom(plan=ceremony_plan(job_spec(holders, threshold)))


def resealed(
    room: HolderRoom, liar: HolderId, victim: HolderId, alter: Callable[[steps.Dealing], steps.Dealing]
) -> Lie:
    """Deal something else to the victim, properly sealed and signed."""

    def lie(reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        number = room.plan.group.index(victim)
        plaintext = alter(steps.deal(state.secrets, number)).to_bytes()
        key = state.hellos[number - 1].message.hpke_public_key
        part = seal(plaintext, public_key=key, info=transcript.sealing_info(state.context, liar, victim))
        return with_part(reply, room, victim, part)

    return lie


def with_part(reply: Reply, room: HolderRoom, victim: HolderId, part: bytes) -> Reply:
    assert isinstance(reply.message, Dealing)
    digests = list(reply.message.sealed_digests)
    digests[room.plan.group.index(victim) - 1] = Digest(hashlib.sha256(part).digest())
    message = with_changes(reply.message, sealed_digests=tuple(digests))
    return Reply(message=message, sealed={**reply.sealed, victim: part})


def wrong_share(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def alter(dealing: steps.Dealing) -> steps.Dealing:
        share = dealing.share.copy()
        share[0, 0] = (int(share[0, 0]) + 1) % room.plan.parameters.key_primes[0]
        return replace(dealing, share=share)

    room.lies[liar, Dealing] = resealed(room, liar, victim, alter)


def wrong_smudging_part(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def alter(dealing: steps.Dealing) -> steps.Dealing:
        subset = next(iter(dealing.smudging_parts))
        return replace(dealing, smudging_parts={**dealing.smudging_parts, subset: bytes(32)})

    room.lies[liar, Dealing] = resealed(room, liar, victim, alter)


def bad_sealed_blob(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    room.lies[liar, Dealing] = lambda reply: with_part(reply, room, victim, b"no HPKE at all" * 9)


def sealed_nonsense(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def lie(reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        key = state.hellos[room.plan.group.index(victim) - 1].message.hpke_public_key
        info = transcript.sealing_info(state.context, liar, victim)
        return with_part(reply, room, victim, seal(b"no dealing", public_key=key, info=info))

    room.lies[liar, Dealing] = lie


def wrong_opening(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def lie(reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        other = steps.draw(room.plan.parameters, state.reader.number, bytes(32), state.context)
        return Reply(message=with_changes(reply.message, b=other.opening_bytes), sealed=reply.sealed)

    room.lies[liar, Dealing] = lie


def another_draw_after_the_commitment(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    """Commit to one b and deal another whole draw, consistent in itself: only the commitment tells."""

    def lie(_reply: Reply) -> Reply:
        state = room.states[liar]
        assert isinstance(state, Dealt)
        late = steps.draw(room.plan.parameters, state.reader.number, b"chosen late" + bytes(21), state.context)
        # The seed stays, or the liar's own HPKE key would be another than it announced.
        other = with_changes(late, seed=state.seed)
        room.states[liar] = with_changes(state, secrets=other)
        hellos = [one.message for one in state.hellos]
        dealing, sealed = deal_to_all(other, context=state.context, holder=liar, hellos=hellos)
        return Reply(message=dealing, sealed=sealed)

    room.lies[liar, Dealing] = lie


def unreadable_opening(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    """Commit to bytes that are no polynomial, and open to them."""
    b = b"\xff" * (4 * 4 * room.plan.parameters.degree)

    def commit(reply: Reply) -> Reply:
        assert isinstance(reply.message, KeyCommitment)
        number = room.plan.group.index(liar)
        return Reply(message=with_changes(reply.message, commitment=steps.commitment(number, reply.message.context, b)))

    room.lies[liar, KeyCommitment] = commit
    room.lies[liar, Dealing] = lambda reply: Reply(message=with_changes(reply.message, b=b), sealed=reply.sealed)


def false_complaint(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    room.lies[liar, Trial] = lambda reply: Reply(
        message=with_changes(reply.message, answer_digest=b"", complaint=f"{victim}: what it sealed cannot be opened")
    )


def wrong_answer(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    def lie(reply: Reply) -> Reply:
        answer = reply.attachment[:-1] + bytes([reply.attachment[-1] ^ 1])
        message = with_changes(reply.message, answer_digest=hashlib.sha256(answer).digest())
        return Reply(message=message, attachment=answer)

    room.lies[liar, Trial] = lie


def answer_of_no_form(room: HolderRoom, liar: HolderId, victim: HolderId) -> None:
    room.lies[liar, Trial] = lambda reply: Reply(
        message=with_changes(reply.message, answer_digest=hashlib.sha256(b"nothing").digest()), attachment=b"nothing"
    )


LIES = [
    wrong_share,
    wrong_smudging_part,
    bad_sealed_blob,
    sealed_nonsense,
    wrong_opening,
    another_draw_after_the_commitment,
    unreadable_opening,
    false_complaint,
    wrong_answer,
    answer_of_no_form,
]


def other_message(message: object) -> Any:
    if isinstance(message, Hello):
        return with_changes(message, nonce=bytes(32))
    if isinstance(message, KeyCommitment):
        return with_changes(message, commitment=bytes(32))
    assert isinstance(message, Dealing)
    return with_changes(message, b=message.b[::-1])


def wrong_split(room: HolderRoom) -> Authenticated[Any]:
    dealing = room.said[EAST, Dealing].message
    assert isinstance(dealing, Dealing)
    digests = (Digest(bytes(32)), *dealing.sealed_digests[1:])
    return signed(with_changes(dealing, sealed_digests=digests))
