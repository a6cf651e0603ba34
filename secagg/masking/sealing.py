"""Sealing one pair of shares to one neighbour: X25519, HKDF-SHA256, AES-256-GCM.

The coordinator relays what is sealed here and can neither read nor change it, nor pass it on to
another receiver, in another round or under another sender's name.

Source: Bonawitz et al. 2017, section 4 (round 1); DESIGN section 5.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.digests import Canonical
from secagg.errors import MessageError
from secagg.ids import ClientId, Digest
from secagg.labels import SEALED_SHARE
from secagg.masking.agreement import PrivateKey, agree, derive_key
from secagg.masking.shamir import PAIR_BYTES, SHARE_BYTES, decode_share, encode_share
from secagg.masking.stream import Words

# A key serves one message: it is bound to plan, roster, sender and receiver, in that direction, and
# what a client seals in that context follows from its seed, so a repetition is the same message.
_NONCE: Final = bytes(12)


def seal(
    share_private: PrivateKey,
    peer_public: bytes,
    plaintext: bytes,
    *,
    plan_digest: Digest,
    roster_digest: Digest,
    sender: ClientId,
    receiver: ClientId,
) -> bytes:
    """Seal `plaintext` from `sender`, whose share key is `share_private`, to `receiver`: 16 bytes longer.

    Never seal two different plaintexts with the same other arguments.

    Raises:
        MessageError: nothing can be sealed to the receiver's key.
    """
    context = _context(plan_digest, roster_digest, sender, receiver)
    key = derive_key(agree(share_private, peer_public), context)
    return AESGCM(key).encrypt(_NONCE, plaintext, context.encoded())


def open_sealed(
    share_private: PrivateKey,
    peer_public: bytes,
    sealed: bytes,
    *,
    plan_digest: Digest,
    roster_digest: Digest,
    sender: ClientId,
    receiver: ClientId,
) -> bytes:
    """Open what `sender`, whose public share key is `peer_public`, sealed to `receiver`, who calls.

    Raises:
        MessageError: it was not sealed by that sender to that receiver in this round, or was altered.
    """
    context = _context(plan_digest, roster_digest, sender, receiver)
    key = derive_key(agree(share_private, peer_public), context)
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, context.encoded())
    except InvalidTag:
        raise MessageError(f"the shares that came as client {sender}'s do not open") from None


def encode_pair(seed_share: Words, key_share: Words) -> bytes:
    """Return 72 bytes: a share of the self-mask seed, then one of the mask key, each uint32 (9,)."""
    return encode_share(seed_share) + encode_share(key_share)


def decode_pair(data: bytes) -> tuple[Words, Words]:
    """Return the shares of seed and mask key. Raises `MessageError` on what is not two shares."""
    if len(data) != PAIR_BYTES:
        raise MessageError(f"a pair of shares has {PAIR_BYTES} bytes, not {len(data)}")
    return decode_share(data[:SHARE_BYTES]), decode_share(data[SHARE_BYTES:])


def _context(plan_digest: Digest, roster_digest: Digest, sender: ClientId, receiver: ClientId) -> Canonical:
    return Canonical(SEALED_SHARE).data(plan_digest).data(roster_digest).text(sender).text(receiver)
