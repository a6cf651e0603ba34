"""What happens to a key holder in a ceremony, and what it wants done (docs/protocol.md, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from he.key_share import KeyShare
from secagg.ids import Digest, HolderId
from secagg.messages.ceremony import (
    Dealing,
    DealingBundle,
    Hello,
    KeyCommitment,
    KeyStatement,
    SeedOpening,
    Trial,
    TrialBundle,
    Verdict,
)
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan


@dataclass(frozen=True, kw_only=True)
class BeginCeremony:
    """The coordinator asks for a key; `seed` is 32 fresh random bytes of this holder."""

    plan: CeremonyPlan
    seed: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class HellosReceived:
    """Everybody's hello, in the order of the group, as all lists below."""

    hellos: tuple[Authenticated[Hello], ...]


@dataclass(frozen=True, kw_only=True)
class CommitmentsReceived:
    """Everybody's commitment to its b_i."""

    commitments: tuple[Authenticated[KeyCommitment], ...]


@dataclass(frozen=True, kw_only=True)
class DealingsReceived:
    """Everybody's dealing, with the parts sealed to this holder."""

    dealings: tuple[DealingBundle, ...]


@dataclass(frozen=True, kw_only=True)
class TrialsReceived:
    """Everybody's trial: the holder is asked to vouch for the key."""

    trials: tuple[TrialBundle, ...]


@dataclass(frozen=True, kw_only=True)
class SeedAsked:
    """Everybody's trial, which failed: the holder is asked for its seed."""

    trials: tuple[TrialBundle, ...]


@dataclass(frozen=True, kw_only=True)
class BlameAsked:
    """The seeds that arrived, and every dealing with all its sealed parts."""

    openings: tuple[Authenticated[SeedOpening], ...]
    dealings: tuple[DealingBundle, ...]


@dataclass(frozen=True, kw_only=True)
class CeremonyEnded:
    """The round is over, the ceremony was given up, or its time has passed."""


CeremonyEvent = (
    BeginCeremony
    | HellosReceived
    | CommitmentsReceived
    | DealingsReceived
    | TrialsReceived
    | SeedAsked
    | BlameAsked
    | CeremonyEnded
)


@dataclass(frozen=True, kw_only=True)
class RecordCeremony:
    """Store for ever that this ceremony was begun: a second hello for it would be an equivocation."""

    ceremony_digest: Digest


@dataclass(frozen=True, kw_only=True)
class SealShare:
    """Store the share, sealed, before the key is vouched for."""

    plan: CeremonyPlan
    share: KeyShare = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Sign the message and answer with it; what follows travels beside it.

    Attributes:
        message: what is signed.
        sealed: the parts of a dealing, by receiver.
        attachment: the answer of a trial, or the b that a statement vouches for.
    """

    message: Hello | KeyCommitment | Dealing | Trial | KeyStatement | SeedOpening | Verdict
    sealed: dict[HolderId, bytes] = field(default_factory=dict, repr=False)
    attachment: bytes = field(default=b"", repr=False)


CeremonyEffect = RecordCeremony | SealShare | Reply
