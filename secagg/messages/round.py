"""Messages of a round (``docs/protocol.md``, sections 5 and 6). Digests and roots are 32 bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from secagg.ids import ClientId, Digest, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan


class Phase(Enum):
    """Where a round stands; the last two are its ends."""

    KEYING = "keying"
    OPEN = "open"
    FROZEN = "frozen"
    SHARING = "sharing"
    UPLOADING = "uploading"
    CONFIRMING = "confirming"
    UNMASKING = "unmasking"
    APPROVING = "approving"
    DECRYPTING = "decrypting"
    PUBLISHED = "published"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to the round any more."""
        return self in (Phase.PUBLISHED, Phase.ABORTED)


class Half(Enum):
    """The halves of a ciphertext: c0 is for the coordinator, c1 also goes to the key holders."""

    C0 = "c0"
    C1 = "c1"


@dataclass(frozen=True, kw_only=True)
class Join:
    """A client takes part, and commits to its ciphertext before it sees anybody else's."""

    plan_digest: Digest
    client: ClientId
    commitment: bytes


@dataclass(frozen=True, kw_only=True)
class RosterSeal:
    """The one roster of this key that this holder will ever know."""

    key_id: KeyId
    roster_digest: Digest
    holder: HolderId


@dataclass(frozen=True, kw_only=True)
class FrozenRoster:
    """The clients of a round, in the order of their names. ``seals``: of a quorum of holders, before a client uploads."""

    plan_digest: Digest
    joins: tuple[Authenticated[Join], ...]
    seals: tuple[Authenticated[RosterSeal], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Opens the commitment of the join, bound to the roster that the client saw."""

    plan_digest: Digest
    roster_digest: Digest
    client: ClientId
    nonce: bytes
    parameters_digest: Digest
    level: int
    scale: float
    chunks: int
    root_c0: Digest
    root_c1: Digest


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of a round, signed by the coordinator. ``mean_digest``: every tensor in plan order, little-endian, own dtype."""

    plan_digest: Digest
    roster_digest: Digest
    contributors: tuple[ClientId, ...]
    total_weight: float
    mean_digest: Digest
    mean_bytes: int


@dataclass(frozen=True, kw_only=True)
class Approval:
    """The one set of contributions that this holder will ever open for this key."""

    key_id: KeyId
    request_digest: Digest
    holder: HolderId


@dataclass(frozen=True, kw_only=True)
class PartialStatement:
    """What a holder answered, so that a wrong answer can be held against it."""

    key_id: KeyId
    request_digest: Digest
    holder: HolderId
    answer_digest: Digest


class HolderVerdict(Enum):
    """What is known of a key holder in a round."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    FAULTY = "faulty"
    SUSPECT = "suspect"


@dataclass(frozen=True, kw_only=True)
class HolderStatus:
    """A key holder's part in a round, as far as the coordinator can know it."""

    holder: HolderId
    verdict: HolderVerdict
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RoundStatus:
    """What operators and auditors see of a round: ids and counts. ``phase_started``: seconds since the epoch by phase.

    ``approvals`` and ``answers`` are the key holders'; in a masking round the clients' confirmations and unmaskings.
    """

    job: JobId
    round: RoundNumber
    phase: Phase
    reason: str = ""
    joined: int = 0
    uploaded: int = 0
    approvals: int = 0
    answers: int = 0
    phase_started: dict[Phase, float] = field(default_factory=dict)
    holders: tuple[HolderStatus, ...] = ()
    plan: RoundPlan | None = None
    contributors: tuple[ClientId, ...] = ()
    total_weight: float = 0.0
    shared: int = 0

    @property
    def purged(self) -> bool:
        """Whether the retention rule took the round's record: a published round has clients and a plan, an aborted one a reason."""
        return self.phase.ended and self.plan is None and not self.reason and not self.joined
