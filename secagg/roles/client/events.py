"""What can happen to a client in a round, and what its driver does about it."""

from __future__ import annotations

from dataclasses import dataclass

from he.public_key import PublicKey
from secagg.ids import Digest, RoundNumber
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import FrozenRoster, Join, Result, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan
from secagg.roles.client.masking.events import MaskingEffect, MaskingEvent


@dataclass(frozen=True, kw_only=True)
class PlanOffered:
    """The coordinator shows a round that can be joined, and in ``ckks`` its key."""

    plan: RoundPlan
    bundle: PublicKeyBundle | None


@dataclass(frozen=True, kw_only=True)
class CiphertextReady:
    """The update is encrypted and waits in the spool. ``nonce``: 32 fresh random bytes, which hide the commitment."""

    nonce: bytes
    root_c0: Digest
    root_c1: Digest


@dataclass(frozen=True, kw_only=True)
class JoinRefused:
    """The roster was frozen before the join arrived: the client is not in this round."""


@dataclass(frozen=True, kw_only=True)
class RosterFrozen:
    """The coordinator shows the frozen roster."""

    roster: FrozenRoster


@dataclass(frozen=True, kw_only=True)
class UploadAccepted:
    """The coordinator verified the upload and counts it."""


@dataclass(frozen=True, kw_only=True)
class ResultPublished:
    """The round is over; SHA-256 and length are those of the mean's bytes as they were downloaded."""

    result: Authenticated[Result]
    mean_digest: Digest
    mean_bytes: int


@dataclass(frozen=True, kw_only=True)
class RoundEnded:
    """The round ended without a result, or without one in time. ``have``, ``need``: where too few was the reason."""

    reason: str
    have: int | None = None
    need: int | None = None


CkksEvent = PlanOffered | CiphertextReady | JoinRefused | RosterFrozen | UploadAccepted | ResultPublished | RoundEnded
Event = CkksEvent | MaskingEvent


@dataclass(frozen=True, kw_only=True)
class AwaitRound:
    """Ask for a round later than this one, then report ``PlanOffered``."""

    after_round: int


@dataclass(frozen=True, kw_only=True)
class BuildKey:
    """Encrypt the update under this key into the spool, then report ``CiphertextReady``."""

    plan: RoundPlan
    public_key: PublicKey


@dataclass(frozen=True, kw_only=True)
class SendJoin:
    """Sign and send the join; then report ``RosterFrozen``, ``JoinRefused`` or ``RoundEnded``."""

    join: Join


@dataclass(frozen=True, kw_only=True)
class SendUpload:
    """Sign the opening of the commitment and send both halves; then report ``UploadAccepted`` or ``RoundEnded``."""

    upload: Upload


@dataclass(frozen=True, kw_only=True)
class AwaitResult:
    """Wait for the end and download the mean, ``mean_bytes`` at the most; report ``ResultPublished`` or ``RoundEnded``."""

    mean_bytes: int


@dataclass(frozen=True, kw_only=True)
class DeliverResult:
    """The downloaded mean is the result: hand it to the caller."""

    round: RoundNumber
    result: Result


@dataclass(frozen=True, kw_only=True)
class Fail:
    """Tell the caller that the round was aborted; whether the update is submitted again is the caller's decision."""

    reason: str
    have: int | None = None
    need: int | None = None


Effect = AwaitRound | BuildKey | SendJoin | SendUpload | AwaitResult | DeliverResult | Fail | MaskingEffect
