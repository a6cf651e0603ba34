"""What the coordinator knows of a round (``docs/protocol.md``, sections 4 to 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from secagg import transcript
from secagg.ids import ClientId, Digest, HolderId, RoundNumber
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import (
    Approval,
    FrozenRoster,
    HolderStatus,
    HolderVerdict,
    Join,
    Phase,
    Result,
    RosterSeal,
    Upload,
)
from secagg.messages.signed import Authenticated
from secagg.plan import HolderGroup, JobSpec, RoundPlan
from secagg.roles.coordinator.events import AnswerReceived

StateT = TypeVar("StateT", bound="RoundState")


@dataclass(frozen=True, kw_only=True)
class RoundState:
    """What rounds of every protocol have. Mappings are never changed in place.

    Attributes:
        joins: what each client signed when it joined.
        uploads: of the clients whose upload counts.
        refused: clients of the roster whose upload failed verification, with the reason.
        holders: what is known of key holders; nothing where the protocol has none.
        have, need: the counts behind ``reason``, where too few was the reason.
    """

    spec: JobSpec
    round: RoundNumber
    phase: Phase
    plan: RoundPlan | None = None
    joins: Mapping[ClientId, Authenticated[Any]] = field(default_factory=dict)
    uploads: Mapping[ClientId, Authenticated[Any]] = field(default_factory=dict)
    refused: Mapping[ClientId, str] = field(default_factory=dict)
    roster_digest: Digest | None = None
    holders: Mapping[HolderId, HolderStatus] = field(default_factory=dict)
    result: Result | None = None
    reason: str = ""
    have: int | None = None
    need: int | None = None

    @property
    def certified(self) -> RoundPlan:
        """The plan; a ``ckks`` round has none before its key is certified, so only to be asked for from OPEN on."""
        if self.plan is None:
            raise AssertionError("a round has no plan before its key is certified")
        return self.plan

    @property
    def frozen_digest(self) -> Digest:
        """The roster digest, once the roster is frozen."""
        if self.roster_digest is None:
            raise AssertionError("the roster is not frozen yet")
        return self.roster_digest

    @property
    def contributors(self) -> tuple[ClientId, ...]:
        """Clients whose upload counts, in the order of their names."""
        return tuple(sorted(self.uploads))


@dataclass(frozen=True, kw_only=True)
class CkksRoundState(RoundState):
    """One round, from its ceremony to its end.

    Attributes:
        attempt: how often a key was begun to be made; 0 before the first time.
        invited: the holders of the last attempt.
        seals: what holders signed of the frozen roster.
        lost: holders of which nothing more is expected: unreachable, faulty, or refusing.
        asked: holders that were asked for their partial decryption.
        answered: holders that answered, in the order of arrival.
        answers: what each of them answered.
        opening: whether a recovery of the sum is under way.
        failed_with: the holders whose answers did not open the sum in the last attempt.
        closing: whether no further answer is waited for.
    """

    phase: Phase = Phase.KEYING
    attempt: int = 0
    invited: tuple[HolderId, ...] = ()
    key: PublicKeyBundle | None = None
    joins: Mapping[ClientId, Authenticated[Join]] = field(default_factory=dict)
    uploads: Mapping[ClientId, Authenticated[Upload]] = field(default_factory=dict)
    seals: Mapping[HolderId, Authenticated[RosterSeal]] = field(default_factory=dict)
    request_digest: Digest | None = None
    approvals: Mapping[HolderId, Authenticated[Approval]] = field(default_factory=dict)
    lost: frozenset[HolderId] = frozenset()
    asked: frozenset[HolderId] = frozenset()
    answered: tuple[HolderId, ...] = ()
    answers: Mapping[HolderId, AnswerReceived] = field(default_factory=dict)
    opening: bool = False
    failed_with: frozenset[HolderId] = frozenset()
    closing: bool = False

    @property
    def group(self) -> HolderGroup:
        """Who holds the key."""
        return self.certified.ckks.group

    @property
    def roster(self) -> FrozenRoster:
        """The frozen roster, in the order of the names, with the seals that it has."""
        joins = tuple(self.joins[client] for client in sorted(self.joins))
        seals = tuple(self.seals[holder] for holder in self.group.holders if holder in self.seals)
        return FrozenRoster(plan_digest=self.certified.digest, joins=joins, seals=seals)

    @property
    def contributions(self) -> tuple[Authenticated[Upload], ...]:
        """The uploads that count, in the order of their clients' names."""
        return tuple(self.uploads[client] for client in self.contributors)

    @property
    def usable(self) -> frozenset[HolderId]:
        """Holders whose answer is there and not known to be wrong."""
        faulty = {name for name, status in self.holders.items() if status.verdict is HolderVerdict.FAULTY}
        return frozenset(self.answered) - faulty

    @property
    def pending(self) -> frozenset[HolderId]:
        """Holders that were asked for an answer, and may still give it."""
        return self.asked - frozenset(self.answered) - self.lost

    @property
    def hesitating(self) -> frozenset[HolderId]:
        """Holders whose approval may still come."""
        return frozenset(self.group.holders) - frozenset(self.approvals) - self.lost

    def with_verdict(self, holder: HolderId, verdict: HolderVerdict, reason: str) -> CkksRoundState:
        """Record what is known of a holder; *faulty* is proven, so it is never taken back."""
        known = self.holders.get(holder)
        if known is not None and known.verdict is HolderVerdict.FAULTY:
            return self
        status = HolderStatus(holder=holder, verdict=verdict, reason=reason)
        return replace(self, holders={**self.holders, holder: status})

    def without(self, holder: HolderId, verdict: HolderVerdict, reason: str) -> CkksRoundState:
        """Expect nothing more of a holder."""
        return replace(self.with_verdict(holder, verdict, reason), lost=self.lost | {holder})


def digest_of_roster(state: CkksRoundState) -> Digest:
    """Return the roster digest of the joins so far."""
    return transcript.roster_digest(state.certified.digest, (join.message for join in state.joins.values()))


def digest_of_request(state: CkksRoundState) -> Digest:
    """Return the request digest of the uploads that count."""
    if state.roster_digest is None:
        raise AssertionError("a request needs a frozen roster")
    uploads = (upload.message for upload in state.uploads.values())
    return transcript.request_digest(state.certified.digest, state.roster_digest, uploads)


def accounts(state: CkksRoundState, holders: Iterable[HolderId]) -> str:
    """Say of each holder what is known: unreachable, faulty, suspect, or silent."""
    known = {holder: state.holders.get(holder) for holder in holders}
    words = [
        f"{holder} is {status.verdict.value}"
        if status and status.verdict is not HolderVerdict.OK
        else f"{holder} is silent"
        for holder, status in known.items()
    ]
    return ", ".join(words) or "none is missing"


def named(ids: Iterable[str]) -> str:
    """Join ids for a reason: all of them up to ten, then how many more."""
    ordered = sorted(ids)
    rest = len(ordered) - 10
    return ", ".join(ordered[:10]) + (f" and {rest} more" if rest > 0 else "")
