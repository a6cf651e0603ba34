"""Key agreement (X25519, RFC 7748) and key derivation (HKDF-SHA256, RFC 5869) of the `masking` protocol.

Every `info` is a canonical encoding that starts with a label of its own, so no key serves two
uses, rounds, rosters or pairs. The roster digest covers the public keys of every client, so the
keys need not be named again. Source: Bonawitz et al. 2017, section 4; DESIGN section 5.
"""

from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secagg.digests import Canonical
from secagg.errors import MessageError, UsageError
from secagg.ids import ClientId, Digest
from secagg.labels import PAIR_MASK, SEED_COMMITMENT, SELF_MASK

KEY_BYTES: Final = 32
"""Length of every key, public, private or derived, and of every seed: 256 bits."""

PrivateKey: TypeAlias = "bytes | X25519PrivateKey | Agreements"
"""32 private bytes, or what `private_key` makes of them, or a key that remembers what it agreed on."""

_FIELD_PRIME: Final = 2**255 - 19
_LOW_ORDER: Final = frozenset(
    (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD_PRIME - 1,
    )
)
"""The points of order 1, 2, 4 and 8 on Curve25519 and on its twist, all there are: Bernstein, "Curve25519", section 3."""


def public_key(private: bytes) -> bytes:
    """Return the X25519 public key, 32 bytes, of 32 private bytes. Raises `UsageError` on another length."""
    return private_key(private).public_key().public_bytes_raw()


def private_key(private: bytes) -> X25519PrivateKey:
    """Return the key of 32 private bytes, for many agreements: it takes as long to make as one agreement.

    Raises `UsageError` on another length.
    """
    if len(private) != KEY_BYTES:
        raise UsageError(f"an X25519 private key has {KEY_BYTES} bytes, not {len(private)}")
    return X25519PrivateKey.from_private_bytes(private)


def agree(private: PrivateKey, peer_public: bytes) -> bytes:
    """Return the X25519 shared secret, 32 bytes: an input to `derive_key`, never a key itself.

    Raises:
        MessageError: the peer's key has another length or is a point of low order, with which
            everybody would know the secret.
        UsageError: the private key has another length.
    """
    if isinstance(private, Agreements):
        return private.with_peer(peer_public)
    own = private_key(private) if isinstance(private, bytes) else private
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError:
        raise MessageError("no secret can be agreed with this X25519 public key") from None


class Agreements:
    """A private key and every secret that it was asked to agree on: a client seals to each neighbour, and opens what came from it.

    Raises `UsageError` on another length than 32 bytes. It has no `repr`.
    """

    __slots__ = ("_agreed", "_key")

    def __init__(self, private: bytes) -> None:
        self._key = private_key(private)
        self._agreed: dict[bytes, bytes] = {}

    def with_peer(self, public: bytes) -> bytes:
        """Return the shared secret. Raises as `agree`."""
        if public not in self._agreed:
            self._agreed[public] = agree(self._key, public)
        return self._agreed[public]


def verify_public_key(key: bytes) -> None:
    """Raise `MessageError` unless this is the one form of an X25519 key that secrets can be agreed with.

    Points of low order give the same secret to everybody (`agree` refuses them too, at the cost of an agreement). Numbers from
    2^255 - 19 up are second forms of others (RFC 7748, section 5).
    """
    if len(key) != KEY_BYTES:
        raise MessageError(f"an X25519 public key has {KEY_BYTES} bytes, not {len(key)}")
    number = int.from_bytes(key, "little")
    if number >= _FIELD_PRIME:
        raise MessageError("an X25519 public key is not in its canonical form")
    if number in _LOW_ORDER:
        raise MessageError("no secret can be agreed with this X25519 public key")


def derive_key(secret: bytes, info: Canonical) -> bytes:
    """Derive a key of 32 bytes from a shared secret or a seed; `info` says what it is for."""
    return _hkdf(secret, info.encoded(), KEY_BYTES)


def pair_mask_key(
    private: PrivateKey,
    peer_public: bytes,
    *,
    plan_digest: Digest,
    roster_digest: Digest,
    one: ClientId,
    other: ClientId,
) -> bytes:
    """Return the key, 32 bytes, of the mask that two clients share; both ends get the same.

    Args:
        private: the mask key of one of the two.
        peer_public: the public mask key of the other of the two.
        plan_digest: the round's plan.
        roster_digest: the frozen roster.
        one: either client.
        other: the other client.

    Raises:
        MessageError: as `agree`.
        UsageError: as `agree`, or both names are the same.
    """
    if one == other:
        raise UsageError(f"client {one} has no pairwise mask with itself")
    first, second = sorted((one, other))
    info = Canonical(PAIR_MASK).data(plan_digest).data(roster_digest).text(first).text(second)
    return derive_key(agree(private, peer_public), info)


def self_mask_key(seed: bytes, *, plan_digest: Digest, roster_digest: Digest, client: ClientId) -> bytes:
    """Return the key, 32 bytes, of a client's self mask. Raises `UsageError` on a seed of another length."""
    _check_seed(seed)
    return derive_key(seed, Canonical(SELF_MASK).data(plan_digest).data(roster_digest).text(client))


def seed_commitment(seed: bytes, *, plan_digest: Digest, client: ClientId) -> bytes:
    """Commit to a self-mask seed: SHA-256, 32 bytes. Raises `UsageError` on a seed of another length.

    The seed has 256 bits of entropy, so the hash hides it, and binds the client to it.
    """
    _check_seed(seed)
    return Canonical(SEED_COMMITMENT).data(plan_digest).text(client).data(seed).sha256()


def _hkdf(secret: bytes, info: bytes, length: int, salt: bytes | None = None) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def _check_seed(seed: bytes) -> None:
    if len(seed) != KEY_BYTES:
        raise UsageError(f"a self-mask seed has {KEY_BYTES} bytes, not {len(seed)}")
