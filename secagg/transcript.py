"""The digests that bind the messages of a ceremony and a round together (``docs/protocol.md``, section 2)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from secagg import labels
from secagg.digests import Canonical
from secagg.ids import ClientId, Digest, KeyId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from secagg.messages.ceremony import Dealing, Hello, KeyCommitment
    from secagg.messages.masking import MaskingRoster
    from secagg.messages.round import Join, Upload


def ceremony_context(ceremony_digest: Digest, hellos: Sequence[Hello]) -> Digest:
    """Return the digest that the common polynomial ``a`` is expanded from: the plan and every hello, in holder order."""
    canonical = Canonical(labels.CEREMONY_CONTEXT).data(ceremony_digest).integer(len(hellos))
    for hello in hellos:
        canonical.text(hello.holder).data(hello.nonce).data(hello.hpke_public_key).data(hello.seed_commitment)
    return Digest(canonical.sha256())


def key_id(context: Digest, commitments: Sequence[KeyCommitment], dealings: Sequence[Dealing]) -> KeyId:
    """Return the transcript hash of a ceremony, which names its key."""
    canonical = Canonical(labels.CEREMONY_TRANSCRIPT).data(context).integer(len(dealings))
    for commitment, dealing in zip(commitments, dealings, strict=True):
        canonical.text(commitment.holder).data(commitment.commitment)
        canonical.text(dealing.holder).data(hashlib.sha256(dealing.b).digest())
        canonical.integer(len(dealing.sealed_digests))
        for digest in dealing.sealed_digests:
            canonical.data(digest)
    return KeyId(canonical.sha256())


def sealing_info(context: Digest, sender: str, receiver: str) -> bytes:
    """Return HPKE's ``info`` for one sealed dealing: label, ceremony, sender and receiver."""
    return Canonical(labels.SEALED_DEALING).data(context).text(sender).text(receiver).encoded()


class CiphertextRoot:
    """The root over one half of a client's ciphertext, fed chunk by chunk in order."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def add(self, chunk: bytes | memoryview) -> bytes:
        """Add one chunk's canonical bytes (little-endian uint32 residues); return the chunk's SHA-256."""
        digest = hashlib.sha256(chunk).digest()
        self._digests.append(digest)
        return digest

    def extend(self, following: CiphertextRoot) -> None:
        """Add all chunks of another root, behind those that are here."""
        self._digests.extend(following.digests)

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The chunks' digests so far."""
        return tuple(self._digests)

    def digest(self) -> Digest:
        """Return the root of all chunks so far."""
        canonical = Canonical(labels.CIPHERTEXT_ROOT).integer(len(self._digests)).data(b"".join(self._digests))
        return Digest(canonical.sha256())


def ciphertext_commitment(
    *,
    plan_digest: Digest,
    key_id: KeyId,
    client: ClientId,
    nonce: bytes,
    root_c0: Digest,
    root_c1: Digest,
) -> bytes:
    """Return the commitment of a join. The nonce (32 random bytes) hides it, the client's name makes a copy useless."""
    canonical = Canonical(labels.CIPHERTEXT_COMMITMENT).data(plan_digest).data(key_id).text(client)
    return canonical.data(nonce).data(root_c0).data(root_c1).sha256()


def roster_digest(plan_digest: Digest, joins: Iterable[Join]) -> Digest:
    """Return the digest of a frozen roster: every client and its commitment, in the order of the names."""
    ordered = sorted(joins, key=lambda join: join.client)
    canonical = Canonical(labels.ROSTER_DIGEST).data(plan_digest).integer(len(ordered))
    for join in ordered:
        canonical.text(join.client).data(join.commitment)
    return Digest(canonical.sha256())


def request_digest(plan_digest: Digest, roster_digest: Digest, uploads: Iterable[Upload]) -> Digest:
    """Return the digest of a decryption request: the one set of contributions that is to be opened."""
    ordered = sorted(uploads, key=lambda upload: upload.client)
    canonical = Canonical(labels.REQUEST_DIGEST).data(plan_digest).data(roster_digest).integer(len(ordered))
    for upload in ordered:
        canonical.text(upload.client).data(upload.nonce).data(upload.root_c0).data(upload.root_c1)
    return Digest(canonical.sha256())


def masking_roster_digest(roster: MaskingRoster) -> Digest:
    """Return the digest of a masking round's roster: the numbers of its graph, every client with its keys and commitment."""
    canonical = Canonical(labels.MASKING_ROSTER_DIGEST).data(roster.plan_digest)
    canonical.integer(roster.neighbours).integer(roster.threshold).integer(roster.quorum).integer(len(roster.joins))
    for join in sorted((one.message for one in roster.joins), key=lambda join: join.client):
        canonical.text(join.client).data(join.mask_key).data(join.share_key).data(join.seed_commitment)
    return Digest(canonical.sha256())


def sharers_digest(roster_digest: Digest, sharers: Iterable[ClientId]) -> Digest:
    """Return the digest of the clients whose shares count, and so of the pairwise masks that a vector carries."""
    return _digest_of_clients(labels.SHARERS_DIGEST, roster_digest, sharers)


def survivors_digest(sharers_digest: Digest, survivors: Iterable[ClientId]) -> Digest:
    """Return the digest of the clients whose vectors are in the sum; it covers plan, roster and sharers too."""
    return _digest_of_clients(labels.SURVIVORS_DIGEST, sharers_digest, survivors)


def _digest_of_clients(label: bytes, context: Digest, clients: Iterable[ClientId]) -> Digest:
    ordered = sorted(clients)
    canonical = Canonical(label).data(context).integer(len(ordered))
    for client in ordered:
        canonical.text(client)
    return Digest(canonical.sha256())
