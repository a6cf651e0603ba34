"""What a client knows of the round that it takes part in. Vectors and ciphertexts stay with the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, TypeAlias

from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.messages.round import Join, Result
from secagg.plan import RoundPlan
from secagg.policy import ClientPolicy


class ClientPhase(Enum):
    """Where a client stands."""

    WAITING = "waiting"
    ENCRYPTING = "encrypting"
    JOINED = "joined"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    FETCHING = "fetching"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the client's owner decided before the coordinator said anything.

    Attributes:
        client: the name in this client's certificate.
        coordinator: the name that the coordinator's certificate must carry.
        policy: the weakest plan to accept.
        job: the job to take part in.
        after_round: only a later round counts.
    """

    client: ClientId
    coordinator: str
    policy: ClientPolicy
    job: JobId
    after_round: RoundNumber


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """No round was offered yet."""

    phase: ClassVar = ClientPhase.WAITING
    terms: Terms


@dataclass(frozen=True, kw_only=True)
class Encrypting:
    """Plan and key hold; nothing was sent."""

    phase: ClassVar = ClientPhase.ENCRYPTING
    terms: Terms
    plan: RoundPlan


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Bound to a ciphertext that nobody has seen. ``nonce`` hides it in the commitment."""

    phase: ClassVar = ClientPhase.JOINED
    terms: Terms
    plan: RoundPlan
    join: Join
    nonce: bytes = field(repr=False)
    root_c0: Digest
    root_c1: Digest


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Who joined, by name, and the digest of it."""

    digest: Digest
    clients: tuple[ClientId, ...]


@dataclass(frozen=True, kw_only=True)
class Uploading:
    """The roster holds; the ciphertext is on its way."""

    phase: ClassVar = ClientPhase.UPLOADING
    terms: Terms
    plan: RoundPlan
    roster: Roster


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """The contribution counts."""

    phase: ClassVar = ClientPhase.UPLOADED
    terms: Terms
    plan: RoundPlan
    roster: Roster


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """The result is published; its mean is on its way."""

    phase: ClassVar = ClientPhase.FETCHING
    result: Result


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Nothing can happen any more."""

    phase: ClassVar = ClientPhase.ENDED


State: TypeAlias = Waiting | Encrypting | Joined | Uploading | Uploaded | Fetching | Ended
