"""Messages of the key ceremony (``docs/protocol.md``, section 4). Byte fields are raw; digests are 32 bytes."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan


@dataclass(frozen=True, kw_only=True)
class Hello:
    """A holder is there: its nonce, its key for this ceremony alone, and the commitment to its seed."""

    ceremony_digest: Digest
    holder: HolderId
    nonce: bytes
    hpke_public_key: bytes
    seed_commitment: bytes


@dataclass(frozen=True, kw_only=True)
class KeyCommitment:
    """The commitment to ``b_i``, made before any ``b_j`` is seen."""

    context: Digest
    holder: HolderId
    commitment: bytes


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """``b_i`` opened, and the digests of the parts sealed to each holder, in the order of the holders."""

    context: Digest
    holder: HolderId
    b: bytes
    sealed_digests: tuple[Digest, ...]


@dataclass(frozen=True, kw_only=True)
class DealingBundle:
    """A signed dealing with the sealed parts that its reader may see, by receiver."""

    dealing: Authenticated[Dealing]
    sealed: dict[HolderId, bytes]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The digest of a holder's answer to the trial decryption, or its complaint (then the digest is empty)."""

    key_id: KeyId
    holder: HolderId
    answer_digest: bytes
    complaint: str


@dataclass(frozen=True, kw_only=True)
class TrialBundle:
    """A signed trial and the answer that its digest covers."""

    trial: Authenticated[Trial]
    answer: bytes


@dataclass(frozen=True, kw_only=True)
class KeyStatement:
    """A holder saw the trial succeed and vouches for the key."""

    key_id: KeyId
    ceremony_digest: Digest
    context: Digest
    public_key_digest: Digest
    holder: HolderId


@dataclass(frozen=True, kw_only=True)
class SeedOpening:
    """The seed of a holder, of a key that it never vouched for. The key is dead, so the seed is no secret any more."""

    key_id: KeyId
    holder: HolderId
    seed: bytes


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who lied in a dead ceremony, by this holder's own recomputation."""

    key_id: KeyId
    holder: HolderId
    liars: tuple[HolderId, ...]


@dataclass(frozen=True, kw_only=True)
class PublicKeyBundle:
    """What a client needs to check a key against its own policy and to build it. ``b``: residues over the key primes."""

    plan: CeremonyPlan
    hellos: tuple[Authenticated[Hello], ...]
    b: bytes
    statements: tuple[Authenticated[KeyStatement], ...]
