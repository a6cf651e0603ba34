"""What the coordinator's driver does, in the order given: the state is stored before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from secagg.ids import Digest, HolderId
from secagg.messages.round import Approval, FrozenRoster, Phase, Result, Upload
from secagg.messages.signed import Authenticated


@dataclass(frozen=True, kw_only=True)
class StoreRound:
    """Make the new state durable."""


@dataclass(frozen=True, kw_only=True)
class AskSeals:
    """Show every holder the frozen roster, before a client sees it."""

    roster: FrozenRoster
    holders: tuple[HolderId, ...]


@dataclass(frozen=True, kw_only=True)
class AskApprovals:
    """Show every holder the roster, the uploads and all c1."""

    request_digest: Digest
    uploads: tuple[Authenticated[Upload], ...]
    holders: tuple[HolderId, ...]


@dataclass(frozen=True, kw_only=True)
class AskDecryption:
    """Ask these holders for their partial decryptions, showing them a quorum of approvals."""

    approvals: tuple[Authenticated[Approval], ...]
    holders: tuple[HolderId, ...]


@dataclass(frozen=True, kw_only=True)
class OpenSum:
    """Recover the sum from the answers of these holders."""

    holders: tuple[HolderId, ...]


@dataclass(frozen=True, kw_only=True)
class UnmaskSum:
    """Recover the secrets behind the masks from the shares that are there, and take the masks off the sum."""


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """Sign the result; it is shown once the state is stored."""

    result: Result


@dataclass(frozen=True, kw_only=True)
class AbortRound:
    """The round is over without a result."""

    reason: str
    have: int | None = None
    need: int | None = None


@dataclass(frozen=True, kw_only=True)
class SetDeadline:
    """Report ``DeadlinePassed(phase)`` after this time."""

    phase: Phase
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SetGrace:
    """Report ``GraceOver`` after this time."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class DeleteUploads:
    """Remove what clients and holders sent in this round."""


@dataclass(frozen=True, kw_only=True)
class EndHolders:
    """Tell the holders to destroy their shares."""

    holders: tuple[HolderId, ...]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Append to the audit trail: ids, counts and digests only."""

    event: str
    details: Mapping[str, str | int | float] = field(default_factory=dict)


Effect = (
    StoreRound
    | AskSeals
    | AskApprovals
    | AskDecryption
    | OpenSum
    | UnmaskSum
    | PublishResult
    | AbortRound
    | SetDeadline
    | SetGrace
    | DeleteUploads
    | EndHolders
    | Audit
)
