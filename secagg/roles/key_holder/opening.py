"""A key holder's part in opening a sum (docs/protocol.md, section 6; DESIGN 4.4), as a pure machine.

One roster and one request digest for each key, for ever. `CERTIFIED` holds the share and no sum of c1: a holder that lost its sum has to be
shown the contributions again, and they must give the digest that stands in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from secagg import transcript
from secagg.errors import ConflictError, FaultyCoordinatorError, WrongPhaseError
from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.round import Approval, FrozenRoster, RosterSeal
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, RoundPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder.request import (
    ComputedHalf,
    Request,
    digest_of,
    verify_computed,
    verify_joined,
    verify_plan,
    verify_roster,
    verify_uploads,
)
from secagg.roles.machine import Machine, Step
from secagg.roles.roster_seals import verify_seals

NO_SUM: Final = "this key holder has no sum to answer with"
ASK_AGAIN: Final = "Ask for its approval first"


class OpeningPhase(Enum):
    """How far a certified key is used; the last is its end."""

    CERTIFIED = "certified"
    APPROVED = "approved"
    ANSWERED = "answered"
    DESTROYED = "destroyed"


@dataclass(frozen=True, kw_only=True)
class OpeningState:
    """One certified key.

    Attributes:
        roster: what the ledger says: the only roster whose uploads may ever be approved of.
        approved: what the ledger says: the only request that may ever be answered.
    """

    holder: HolderId
    policy: HolderPolicy
    ceremony: CeremonyPlan
    key_id: KeyId
    phase: OpeningPhase = OpeningPhase.CERTIFIED
    roster: Digest | None = None
    approved: Digest | None = None


@dataclass(frozen=True, kw_only=True)
class RosterOffered:
    """The coordinator asks for a seal, before a client sees the roster."""

    plan: RoundPlan
    roster: FrozenRoster


@dataclass(frozen=True, kw_only=True)
class ApprovalOffered:
    """The coordinator asks for an approval; nothing of c1 was read yet."""

    request: Request


@dataclass(frozen=True, kw_only=True)
class ApprovalAsked:
    """All c1 of the request were read and added up: `computed` in the order of the uploads."""

    request: Request
    computed: tuple[ComputedHalf, ...]


@dataclass(frozen=True, kw_only=True)
class DecryptionAsked:
    """The coordinator shows a quorum's approvals and asks for the answer."""

    key_id: KeyId
    request_digest: Digest
    approvals: tuple[Authenticated[Approval], ...]


@dataclass(frozen=True, kw_only=True)
class RoundEnded:
    """The coordinator says that the round is over."""


@dataclass(frozen=True, kw_only=True)
class Expired:
    """The deadlines of the plan are over, whatever the coordinator says."""


@dataclass(frozen=True, kw_only=True)
class SumLost:
    """The sum that was approved can no longer be read."""


OpeningEvent = RosterOffered | ApprovalOffered | ApprovalAsked | DecryptionAsked | SumLost | RoundEnded | Expired


@dataclass(frozen=True, kw_only=True)
class RecordRoster:
    """Store the roster digest for this key, for ever, before anything that rests on it leaves."""

    key_id: KeyId
    roster_digest: Digest


@dataclass(frozen=True, kw_only=True)
class ReplySeal:
    """Sign the seal and answer with it."""

    seal: RosterSeal


@dataclass(frozen=True, kw_only=True)
class KeepSum:
    """Store the sum that was added up, before the ledger names its request."""

    key_id: KeyId


@dataclass(frozen=True, kw_only=True)
class RecordInLedger:
    """Store the request digest for this key, for ever, before the approval leaves."""

    key_id: KeyId
    request_digest: Digest


@dataclass(frozen=True, kw_only=True)
class ReplyApproval:
    """Sign the approval and answer with it."""

    approval: Approval


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer with the partial decryption of the sum that was added up, and sign its digest."""

    key_id: KeyId
    request_digest: Digest


@dataclass(frozen=True, kw_only=True)
class DestroyShare:
    """Destroy the stored share and the sum, before anything else happens."""

    key_id: KeyId


OpeningEffect = RecordRoster | ReplySeal | KeepSum | RecordInLedger | ReplyApproval | Answer | DestroyShare
OpeningStep = Step[OpeningState, OpeningEffect]


def seal(state: OpeningState, event: RosterOffered) -> OpeningStep:
    """5.4: record the one roster of this key and sign it; the same again gets the same seal.

    Raises:
        FaultyCoordinatorError: plan or roster are not what they have to be.
        ConflictError: this holder knows another roster for this key.
    """
    verify_plan(event.plan, state.ceremony, state.key_id)
    verify_roster(event.plan, event.roster)
    verify_joined(event.plan, event.roster, state.policy)
    digest = digest_of(event.roster)
    _verify_only_roster(state, digest)
    record = RecordRoster(key_id=state.key_id, roster_digest=digest)
    reply = ReplySeal(seal=RosterSeal(key_id=state.key_id, roster_digest=digest, holder=state.holder))
    return Step(state=replace(state, roster=digest), effects=(record, reply))


def _verify_only_roster(state: OpeningState, digest: Digest) -> None:
    if state.roster not in (None, digest):
        raise ConflictError("this key holder sealed another roster for this key")


def offer(state: OpeningState, event: ApprovalOffered) -> OpeningStep:
    """Check everything that is known before the first chunk of c1; nothing changes.

    Raises:
        FaultyCoordinatorError: plan, roster or list of uploads are not what they have to be.
        FaultyClientError: a client signed an upload that does not fit the plan.
        ConflictError: this holder sealed another roster, or approved another request, for this key.
    """
    verify_request(state, event.request)
    return Step(state=state, effects=())


def approve(state: OpeningState, event: ApprovalAsked) -> OpeningStep:
    """6.2: check everything again, with the roots of c1 that this holder computed, and sign; see `offer`."""
    verify_request(state, event.request)
    verify_computed(event.request, event.computed)
    digest = request_digest_of(event.request)
    phase = OpeningPhase.APPROVED if state.phase is OpeningPhase.CERTIFIED else state.phase
    approval = Approval(key_id=state.key_id, request_digest=digest, holder=state.holder)
    roster = digest_of(event.request.roster)
    effects = (
        RecordRoster(key_id=state.key_id, roster_digest=roster),
        KeepSum(key_id=state.key_id),
        RecordInLedger(key_id=state.key_id, request_digest=digest),
        ReplyApproval(approval=approval),
    )
    return Step(state=replace(state, phase=phase, roster=roster, approved=digest), effects=effects)


def verify_request(state: OpeningState, request: Request) -> None:
    """Check plan, roster, uploads, seals and ledger; see `offer`.

    A holder that was down when the roster was sealed takes the word of q others, and must not know another roster.
    """
    verify_plan(request.plan, state.ceremony, state.key_id)
    verify_roster(request.plan, request.roster)
    verify_uploads(request, state.policy)
    if state.approved not in (None, request_digest_of(request)):
        raise ConflictError("this key holder approved of another set of contributions for this key")
    roster = digest_of(request.roster)
    _verify_only_roster(state, roster)
    if state.roster is None:
        verify_seals(request.plan, roster, request.roster.seals)


def request_digest_of(request: Request) -> Digest:
    """Return the digest of what is to be opened."""
    uploads = [one.message for one in request.uploads]
    return transcript.request_digest(request.plan.digest, digest_of(request.roster), uploads)


def answer(state: OpeningState, event: DecryptionAsked) -> OpeningStep:
    """6.4: answer once q holders of this key, the same digest for all, have approved.

    Raises:
        ConflictError: another request than the approved one.
        FaultyCoordinatorError: too few approvals, or some that do not count.
    """
    if state.approved is None or event.key_id != state.key_id or event.request_digest != state.approved:
        raise ConflictError("this key holder approved of another set of contributions for this key")
    verify_quorum(state, state.approved, event.approvals)
    answered = replace(state, phase=OpeningPhase.ANSWERED)
    return Step(state=answered, effects=(Answer(key_id=state.key_id, request_digest=state.approved),))


def verify_quorum(state: OpeningState, digest: Digest, approvals: Sequence[Authenticated[Approval]]) -> None:
    """Raise `FaultyCoordinatorError` unless q distinct holders of this key approved of exactly this digest."""
    group, messages = state.ceremony.group, [one.message for one in approvals]
    if any(one.key_id != state.key_id or one.request_digest != digest for one in messages):
        raise FaultyCoordinatorError("it showed approvals of another request")
    signers = [one.holder for one in messages]
    if len(set(signers)) != len(signers) or not set(signers) <= set(group.holders):
        raise FaultyCoordinatorError("it showed an approval twice, or one of a stranger to this key")
    if len(signers) < group.quorum:
        raise FaultyCoordinatorError(f"it showed {len(signers)} approvals, {group.quorum} are due before an answer")


def unapproved(_state: OpeningState, _event: DecryptionAsked) -> OpeningStep:
    """Refuse to answer what was not added up here.

    Raises:
        WrongPhaseError: always; the coordinator has to ask for the approval, again if the sum was lost.
    """
    raise WrongPhaseError(NO_SUM, next_step=ASK_AGAIN)


def lose_sum(state: OpeningState, _event: SumLost) -> OpeningStep:
    """Go back to where the contributions have to be shown; the ledger stays."""
    return Step(state=replace(state, phase=OpeningPhase.CERTIFIED), effects=())


def destroy(state: OpeningState, _event: RoundEnded | Expired) -> OpeningStep:
    """Destroy the share; the ledger stays."""
    return Step(state=replace(state, phase=OpeningPhase.DESTROYED), effects=(DestroyShare(key_id=state.key_id),))


def stay_destroyed(state: OpeningState, _event: RoundEnded | Expired) -> OpeningStep:
    """There is nothing left to destroy."""
    return Step(state=state, effects=())


def approve_again(state: OpeningState, event: ApprovalOffered) -> OpeningStep:
    """Repeat the approval of the same request: its sum is there, and c1 need not be read again."""
    verify_request(state, event.request)
    digest = request_digest_of(event.request)
    approval = Approval(key_id=state.key_id, request_digest=digest, holder=state.holder)
    return Step(state=state, effects=(ReplyApproval(approval=approval),))


_P = OpeningPhase
MACHINE: Final[Machine[OpeningState, OpeningEvent, OpeningEffect]] = Machine(
    phase_of=lambda state: state.phase,
    moves={
        (_P.CERTIFIED, RosterOffered): seal,
        (_P.CERTIFIED, ApprovalOffered): offer,
        (_P.CERTIFIED, ApprovalAsked): approve,
        (_P.CERTIFIED, DecryptionAsked): unapproved,
        (_P.CERTIFIED, SumLost): lose_sum,
        (_P.CERTIFIED, RoundEnded): destroy,
        (_P.CERTIFIED, Expired): destroy,
        (_P.APPROVED, RosterOffered): seal,
        (_P.APPROVED, ApprovalOffered): approve_again,
        (_P.APPROVED, ApprovalAsked): approve,
        (_P.APPROVED, DecryptionAsked): answer,
        (_P.APPROVED, SumLost): lose_sum,
        (_P.APPROVED, RoundEnded): destroy,
        (_P.APPROVED, Expired): destroy,
        (_P.ANSWERED, RosterOffered): seal,
        (_P.ANSWERED, ApprovalOffered): approve_again,
        (_P.ANSWERED, ApprovalAsked): approve,
        (_P.ANSWERED, DecryptionAsked): answer,
        (_P.ANSWERED, SumLost): lose_sum,
        (_P.ANSWERED, RoundEnded): destroy,
        (_P.ANSWERED, Expired): destroy,
        (_P.DESTROYED, RoundEnded): stay_destroyed,
        (_P.DESTROYED, Expired): stay_destroyed,
    },
)


def step(state: OpeningState, event: OpeningEvent) -> OpeningStep:
    """Apply an event; raises as the handlers above, and `WrongPhaseError` for what the phase does not allow."""
    return MACHINE.step(state, event)
