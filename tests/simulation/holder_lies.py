"""What may be wrong with a key holder, and how the wrong ones bend what they say. A liar's own machine believes the lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from he import ceremony as steps
from secagg import transcript
from secagg.ids import Digest
from secagg.key_holder.book import HeldRound
from secagg.messages.ceremony import Dealing, SeedOpening, Trial
from secagg.messages.round import Approval, PartialStatement
from secagg.roles.key_holder.events import Reply
from secagg.roles.key_holder.sealing import seal
from secagg.roles.key_holder.state import Dealt


class HolderFate(Enum):
    """What becomes of a key holder; HONEST and RESTARTS follow the protocol."""

    HONEST = "honest"
    RESTARTS = "dies and comes back with its store"
    SILENT = "is never there"
    DEALS_WRONG = "deals one holder a share off its polynomial"
    DEALS_GARBAGE = "seals one holder something that does not open"
    OPENS_ANOTHER_B = "opens another b than it committed to"
    TRIES_WRONG = "answers the trial wrongly"
    COMPLAINS = "complains without ground"
    OPENS_ANOTHER_SEED = "answers the trial wrongly, and opens a seed that is not its own"
    APPROVES_ANOTHER = "approves of a request that nobody made"
    ANSWERS_WRONG = "answers with a wrong partial decryption, signed"
    ANSWERS_SHORT = "answers with half of an answer"
    COLLUDES = "approves of whatever the coordinator shows"


class Liar:
    """Bends what a holder of this fate says; says the same again when it is asked again."""

    def __init__(self, fate: HolderFate) -> None:
        self._fate = fate
        self._told: set[tuple[bytes, type]] = set()

    def bend(self, reply: Reply, held: HeldRound) -> Reply:
        """Return what is said in place of a reply of the ceremony, and let the machine go on as if it had been its own."""
        lie = (held.ceremony_digest, type(reply.message))
        if lie in self._told:
            return reply
        bent = self._bent(reply, held)
        if bent is not reply:
            self._told.add(lie)
            _believe(held, bent)
        return bent

    def _bent(self, reply: Reply, held: HeldRound) -> Reply:
        match reply.message:
            case Dealing():
                return self._bent_dealing(reply, reply.message, held)
            case Trial():
                return self._bent_trial(reply, reply.message)
            case SeedOpening() if self._fate is HolderFate.OPENS_ANOTHER_SEED:
                return replace(reply, message=replace(reply.message, seed=bytes(32)))
        return reply

    def _bent_dealing(self, reply: Reply, dealing: Dealing, held: HeldRound) -> Reply:
        match self._fate:
            case HolderFate.DEALS_WRONG:
                return _deal_wrongly(reply, held)
            case HolderFate.DEALS_GARBAGE:
                return _resealed(reply, held, _next(reply.sealed[_victim(held)], at=-1))
            case HolderFate.OPENS_ANOTHER_B:
                return replace(reply, message=replace(dealing, b=_next(dealing.b)))
        return reply

    def _bent_trial(self, reply: Reply, trial: Trial) -> Reply:
        if self._fate is HolderFate.COMPLAINS:
            return Reply(message=replace(trial, answer_digest=b"", complaint="nothing in particular"))
        if self._fate in (HolderFate.TRIES_WRONG, HolderFate.OPENS_ANOTHER_SEED) and reply.attachment:
            answer = _next(reply.attachment, at=-4)
            return Reply(message=replace(trial, answer_digest=hashlib.sha256(answer).digest()), attachment=answer)
        return reply

    def bend_approval(self, approval: Approval) -> Approval:
        if self._fate is HolderFate.APPROVES_ANOTHER:
            return replace(approval, request_digest=Digest(hashlib.sha256(approval.request_digest).digest()))
        return approval

    def bend_answer(self, parts: Sequence[bytes | PartialStatement]) -> list[bytes | PartialStatement]:
        match self._fate:
            case HolderFate.ANSWERS_WRONG:
                place = _place_of(parts)
                bent = [_next(part, place % len(part) // 4 * 4) if isinstance(part, bytes) else part for part in parts]
                said = b"".join(part for part in bent if isinstance(part, bytes))
                digest = Digest(hashlib.sha256(said).digest())
                return [part if isinstance(part, bytes) else replace(part, answer_digest=digest) for part in bent]
            case HolderFate.ANSWERS_SHORT:
                return [part[: len(part) // 2] if isinstance(part, bytes) else part for part in parts]
        return list(parts)


def _place_of(parts: Sequence[bytes | PartialStatement]) -> int:
    """Return where a holder lies: each elsewhere. Two that change one residue alike collude, and shift the blame (threat model)."""
    [holder] = {part.holder for part in parts if isinstance(part, PartialStatement)}
    return int.from_bytes(hashlib.sha256(holder.encode()).digest()[:8], "little")


def _next(data: bytes, at: int = 0) -> bytes:
    """Change the lowest bit of one residue."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def _victim(held: HeldRound) -> Any:
    group = held.ceremony.reader.group.holders  # type: ignore[union-attr]
    own = group.index(held.ceremony.reader.holder)  # type: ignore[union-attr]
    return group[(own + 1) % len(group)]


def _deal_wrongly(reply: Reply, held: HeldRound) -> Reply:
    state, victim = held.ceremony, _victim(held)
    assert isinstance(state, Dealt)
    number = state.reader.group.index(victim)
    dealing = steps.deal(state.secrets, number)
    dealing.share[0, 5] = (int(dealing.share[0, 5]) + 1) % state.parameters.key_primes[0]
    info = transcript.sealing_info(state.context, state.reader.holder, victim)
    public_key = state.hellos[number - 1].message.hpke_public_key
    return _resealed(reply, held, seal(dealing.to_bytes(), public_key=public_key, info=info))


def _resealed(reply: Reply, held: HeldRound, part: bytes) -> Reply:
    message = reply.message
    assert isinstance(message, Dealing)
    sealed = {**reply.sealed, _victim(held): part}
    digests = tuple(Digest(hashlib.sha256(one).digest()) for one in sealed.values())
    return Reply(message=replace(message, sealed_digests=digests), sealed=sealed)


def _believe(held: HeldRound, reply: Reply) -> None:
    match reply.message:
        case Dealing():
            own: dict[str, Any] = {"dealing": reply.message, "sealed": reply.sealed}
        case Trial():
            own = {"trial": reply.message, "answer": reply.attachment}
        case _:
            own = {"opening": reply.message}
    held.ceremony = replace(held.ceremony, **own)
