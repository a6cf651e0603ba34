"""Sealing a dealing to its receiver: HPKE (RFC 9180) in base mode, X25519, HKDF-SHA256, AES-256-GCM.

The one draw that a holder's seed does not fix is HPKE's own, of an ephemeral key for each message: it is made inside
`cryptography`, which takes no randomness from outside. Blame needs it not: it opens what was sealed.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from secagg.errors import MessageError

SEALING_KEY_BYTES: Final = 32
"""Length of an X25519 public key."""
SEALING_OVERHEAD_BYTES: Final = 32 + 16
"""What sealing adds: the ephemeral key and the tag."""

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def sealing_public_key(private_key: bytes) -> bytes:
    """Return the public half, 32 bytes, of a raw X25519 private key."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def verify_sealing_key(public_key: bytes, private_key: bytes) -> None:
    """Raise `MessageError` unless something can be sealed to the public key: 32 bytes, no point of low order.

    Args:
        public_key: what a holder announced.
        private_key: any raw X25519 private key of the reader's.
    """
    try:
        peer = X25519PublicKey.from_public_bytes(public_key)
        X25519PrivateKey.from_private_bytes(private_key).exchange(peer)
    except ValueError:
        raise MessageError("nothing can be sealed to this X25519 key") from None


def seal(plaintext: bytes, *, public_key: bytes, info: bytes) -> bytes:
    """Seal to a public key that `verify_sealing_key` let pass; `info` is `transcript.sealing_info`."""
    return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info)


def unseal(sealed: bytes, *, private_key: bytes, info: bytes) -> bytes:
    """Open what was sealed to this key under this info; raise `MessageError` if it was not."""
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private_key), info)
    except (InvalidTag, ValueError):
        raise MessageError("the sealed part does not open") from None
