"""Messages of a masking round (``docs/protocol.md``, section 10). Digests, keys and commitments are 32 bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from secagg.ids import ClientId, Digest
from secagg.messages.signed import Authenticated


@dataclass(frozen=True, kw_only=True)
class MaskingJoin:
    """A client takes part, with keys for this round alone and a hash of its self-mask seed."""

    plan_digest: Digest
    client: ClientId
    mask_key: bytes
    share_key: bytes
    seed_commitment: bytes


@dataclass(frozen=True, kw_only=True)
class MaskingRoster:
    """The clients of a round in the order of their names, and the numbers of their graph.

    Attributes:
        neighbours: k, of each client.
        threshold: t, shares that open a secret.
        quorum: q, confirmations of one set of survivors that a client wants to see.
    """

    plan_digest: Digest
    joins: tuple[Authenticated[MaskingJoin], ...]
    neighbours: int
    threshold: int
    quorum: int

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """The clients by position."""
        return tuple(join.message.client for join in self.joins)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """``sealed``: one for each neighbour in the order of the roster."""

    plan_digest: Digest
    roster_digest: Digest
    client: ClientId
    sealed: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MaskedUpload:
    """The one vector of a client in this round, masked for exactly these sharers. ``vector_digest``: SHA-256."""

    plan_digest: Digest
    roster_digest: Digest
    client: ClientId
    sharers_digest: Digest
    vector_digest: Digest
    vector_bytes: int


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The one set of survivors that this client will ever reveal shares for."""

    plan_digest: Digest
    roster_digest: Digest
    client: ClientId
    survivors_digest: Digest


@dataclass(frozen=True, kw_only=True)
class Unmasking:
    """One place for each neighbour in the order of the roster: of a survivor its seed share, of anybody else its mask-key share.

    There is no place for the other one. Empty where the client holds no share of that neighbour.
    """

    plan_digest: Digest
    roster_digest: Digest
    client: ClientId
    survivors_digest: Digest
    shares: tuple[bytes, ...] = field(repr=False)
