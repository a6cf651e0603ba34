"""What can happen to a round at the coordinator."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.ids import ClientId, Digest, HolderId
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.round import (
    Approval,
    HolderStatus,
    HolderVerdict,
    Join,
    PartialStatement,
    Phase,
    RosterSeal,
    Upload,
)
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan


@dataclass(frozen=True, kw_only=True)
class CeremonyBegun:
    """The holders are about to be asked to make a key together, for the ``attempt``-th time from 1."""

    attempt: int
    holders: tuple[HolderId, ...]


@dataclass(frozen=True, kw_only=True)
class KeyCertified:
    """Every holder of the group vouched for a key. ``holders``: what became of all that the job names."""

    bundle: PublicKeyBundle
    plan: RoundPlan
    holders: tuple[HolderStatus, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KeyFailed:
    """No ceremony succeeded."""

    reason: str
    holders: tuple[HolderStatus, ...]
    have: int | None = None
    need: int | None = None


@dataclass(frozen=True, kw_only=True)
class JoinReceived:
    """A client wants to take part."""

    join: Authenticated[Join] | Authenticated[MaskingJoin]


@dataclass(frozen=True, kw_only=True)
class SealReceived:
    """A holder sealed the frozen roster."""

    seal: Authenticated[RosterSeal]


@dataclass(frozen=True, kw_only=True)
class UploadVerified:
    """The driver recomputed both roots from the spooled bytes, and the residues are in order."""

    upload: Authenticated[Upload]


@dataclass(frozen=True, kw_only=True)
class UploadRefused:
    """The spooled bytes are not what the client signed, or not a ciphertext that may count."""

    client: ClientId
    reason: str


@dataclass(frozen=True, kw_only=True)
class ApprovalReceived:
    """A holder signed the request digest."""

    approval: Authenticated[Approval]


@dataclass(frozen=True, kw_only=True)
class HolderSilent:
    """A holder could not be reached; it is asked once more."""

    holder: HolderId
    reason: str


@dataclass(frozen=True, kw_only=True)
class HolderLost:
    """A holder did not do its part, or did it wrong; ``reason`` says what was seen."""

    holder: HolderId
    verdict: HolderVerdict
    reason: str


@dataclass(frozen=True, kw_only=True)
class AnswerReceived:
    """A holder's partial decryption is spooled, in the blob of that name, and its statement verified."""

    holder: HolderId
    blob: str = ""
    statement: Authenticated[PartialStatement] | None = None


@dataclass(frozen=True, kw_only=True)
class GraceOver:
    """One answer more than the threshold was there, and the others had their time to come."""


@dataclass(frozen=True, kw_only=True)
class SumOpened:
    """The answers opened the sum. ``total_weight`` in the callers' units; ``liars`` were found on the way."""

    total_weight: float
    mean_digest: Digest
    mean_bytes: int
    liars: tuple[HolderId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OpeningFailed:
    """The answers did not open the sum. ``can_wait``: another answer may help; otherwise the data itself is at fault."""

    reason: str
    can_wait: bool
    liars: tuple[HolderId, ...] = ()
    suspects: tuple[HolderId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SharesReceived:
    """A client sent its sealed shares."""

    shares: Authenticated[Shares]


@dataclass(frozen=True, kw_only=True)
class VectorVerified:
    """The driver has held the spooled vector against the digest that its client signed."""

    upload: Authenticated[MaskedUpload]


@dataclass(frozen=True, kw_only=True)
class ConfirmationReceived:
    """A survivor signed the set of survivors."""

    confirmation: Authenticated[Confirmation]


@dataclass(frozen=True, kw_only=True)
class UnmaskingReceived:
    """A survivor revealed its shares."""

    unmasking: Authenticated[Unmasking]


@dataclass(frozen=True, kw_only=True)
class SumUnmasked:
    """The masks are off. ``total_weight`` in the callers' units; ``liars`` revealed shares that do not fit."""

    total_weight: float
    mean_digest: Digest
    mean_bytes: int
    liars: tuple[ClientId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnmaskingFailed:
    """The shares did not give the secrets of the roster.

    ``can_wait``: other shares may help; ``used``: how many unmaskings were looked at, for more may have come meanwhile.
    """

    reason: str
    can_wait: bool
    used: int


@dataclass(frozen=True, kw_only=True)
class DeadlinePassed:
    """The time of a phase is over; without effect when the round has left that phase."""

    phase: Phase


@dataclass(frozen=True, kw_only=True)
class CancelRequested:
    """The round cannot go on for a reason of the coordinator's own."""

    reason: str


CkksEvent = (
    CeremonyBegun
    | KeyCertified
    | KeyFailed
    | JoinReceived
    | SealReceived
    | UploadVerified
    | UploadRefused
    | ApprovalReceived
    | HolderSilent
    | HolderLost
    | AnswerReceived
    | GraceOver
    | SumOpened
    | OpeningFailed
    | DeadlinePassed
    | CancelRequested
)
MaskingEvent = (
    JoinReceived
    | SharesReceived
    | VectorVerified
    | UploadRefused
    | ConfirmationReceived
    | UnmaskingReceived
    | GraceOver
    | SumUnmasked
    | UnmaskingFailed
    | DeadlinePassed
    | CancelRequested
)
Event = CkksEvent | MaskingEvent
