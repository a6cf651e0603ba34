"""What a client's machine is told, and what it wants done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from he.public_key import PublicKey
from secagg.errors import SecAggError
from secagg.ids import Digest
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import FrozenRoster, Join, Result, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan


@dataclass(frozen=True, kw_only=True)
class PlanOffered:
    """5.1: the coordinator offers a round and its key."""

    plan: RoundPlan
    key: PublicKeyBundle


@dataclass(frozen=True, kw_only=True)
class CiphertextReady:
    """5.2: the update is encrypted. ``nonce``: 32 random bytes; the roots are those of the two halves."""

    nonce: bytes = field(repr=False)
    root_c0: Digest
    root_c1: Digest


@dataclass(frozen=True, kw_only=True)
class RosterFrozen:
    """5.3: nobody can join any more."""

    roster: FrozenRoster


@dataclass(frozen=True, kw_only=True)
class UploadAccepted:
    """5.6: the coordinator verified the upload and counts it."""


@dataclass(frozen=True, kw_only=True)
class ResultPublished:
    """6.6: the coordinator says what came out."""

    result: Authenticated[Result]


@dataclass(frozen=True, kw_only=True)
class MeanFetched:
    """6.6: the mean has arrived. ``digest``: SHA-256 of what arrived; ``size``: its bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, kw_only=True)
class RoundEnded:
    """The coordinator aborted the round."""

    reason: str
    have: int | None = None
    need: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """The caller wants no more of it."""


Event: TypeAlias = (
    PlanOffered
    | CiphertextReady
    | RosterFrozen
    | UploadAccepted
    | ResultPublished
    | MeanFetched
    | RoundEnded
    | Cancelled
)


@dataclass(frozen=True, kw_only=True)
class Encrypt:
    """Pack, clip and encrypt the update under this key, then say :class:`CiphertextReady`."""

    plan: RoundPlan
    public_key: PublicKey


@dataclass(frozen=True, kw_only=True)
class SendJoin:
    """Sign and send the join, then wait for the roster."""

    join: Join


@dataclass(frozen=True, kw_only=True)
class SendUpload:
    """Sign the opening of the commitment, send it with both halves, and have it counted."""

    upload: Upload


@dataclass(frozen=True, kw_only=True)
class AwaitResult:
    """Wait for the end of the round."""


@dataclass(frozen=True, kw_only=True)
class FetchMean:
    """Download the mean: exactly ``result.mean_bytes``."""

    result: Result


@dataclass(frozen=True, kw_only=True)
class Finish:
    """All holds: hand the mean to the caller."""

    result: Result


@dataclass(frozen=True, kw_only=True)
class Fail:
    """The round ended without a result: raise this."""

    error: SecAggError


Effect: TypeAlias = Encrypt | SendJoin | SendUpload | AwaitResult | FetchMean | Finish | Fail
