"""What one holder draws in a key ceremony: everything from one 32-byte seed.

Whoever is given the seed (when the key is dead) repeats every draw bit by bit. The functions
without a context come before the hellos are exchanged; the context, a digest over the ceremony
plan and all hellos, enters everything drawn after.

Source: docs/protocol.md, section "Key ceremony" (DESIGN 4.2).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from he.key_share import check_holder
from he.parameters import Parameters
from he.residues import Residues, residues_from_bytes, residues_to_bytes
from he.ring import key_ring_for
from he.sampling import (
    centred_binomial,
    derive,
    expand_public,
    framed,
    ternary,
    uniform_residues,
)
from he.smudging import Subset

SEED_BYTES: Final = 32


def nonce(holder: int, seed: bytes) -> bytes:
    """32 bytes of hello that make every ceremony's context new; public."""
    return derive(seed, b"he ceremony nonce v1", _u32(holder))


def hpke_private_key(holder: int, seed: bytes) -> bytes:
    """Raw X25519 private key (32 bytes) that dealings to this holder are sealed to."""
    return derive(seed, b"he ceremony hpke v1", _u32(holder))


def hpke_public_key(holder: int, seed: bytes) -> bytes:
    """Raw X25519 public key (32 bytes) of `hpke_private_key`, for the hello."""
    private_key = X25519PrivateKey.from_private_bytes(hpke_private_key(holder, seed))
    return private_key.public_key().public_bytes_raw()


def seed_commitment(holder: int, seed: bytes) -> bytes:
    """SHA-256 commitment (32 bytes) to the seed, with the holder's number in it."""
    return sha256(framed(b"he ceremony seed v1", _u32(holder), seed)).digest()


def commitment(holder: int, context: bytes, opening: bytes) -> bytes:
    """SHA-256 commitment (32 bytes) to b_i as `HolderSecrets.opening_bytes` encodes it."""
    return sha256(framed(b"he ceremony opening v1", context, _u32(holder), opening)).digest()


def public_a(parameters: Parameters, context: bytes) -> Residues:
    """`a` of this ceremony: NTT form over the key primes, (L+1, N) uint32, invertible."""
    return expand_public(context, parameters.key_primes, parameters.degree)


def opening_from_bytes(parameters: Parameters, data: bytes) -> Residues:
    """Decode a b_i, (L+1, N) uint32 in NTT form over the key primes. Raises `FormatError`."""
    return residues_from_bytes(data, parameters.key_primes, degree=parameters.degree)


def collective_b(parameters: Parameters, openings: Sequence[Residues]) -> Residues:
    """Add the b_i of all holders: the second half of the public key, (L+1, N) uint32."""
    ring = key_ring_for(parameters)
    total = np.zeros_like(openings[0])
    for opening in openings:
        total = ring.add(total, opening)
    return total


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HolderSecrets:
    """One holder's draw: b_i, (L+1, N), and f_i, (t, L+1, N) with f_i(0) = s_i, in NTT form."""

    parameters: Parameters
    holder: int
    context: bytes
    seed: bytes
    opening: Residues
    polynomial: Residues

    @property
    def opening_bytes(self) -> bytes:
        """b_i as it is committed to and sent: C-order little-endian uint32."""
        return residues_to_bytes(self.opening)

    @property
    def opening_commitment(self) -> bytes:
        """Second message: the commitment to b_i."""
        return commitment(self.holder, self.context, self.opening_bytes)

    def smudging_part(self, subset: Subset) -> bytes:
        """Draw this holder's 32-byte part of the smudging key of `subset`."""
        return derive(self.seed, b"he smudging part v1", self.context, bytes(subset))


def draw(parameters: Parameters, holder: int, seed: bytes, context: bytes) -> HolderSecrets:
    """Draw ternary s_i, error e_i, b_i = -a·s_i + e_i and the sharing polynomial f_i.

    `context` (32 bytes) must cover plan, parameters and all hellos. Raises `FormatError` for a
    holder outside 1..n, `ValueError` for a seed of another length.
    """
    check_holder(parameters, holder)
    if len(seed) != SEED_BYTES:
        message = f"a seed has {SEED_BYTES} bytes, not {len(seed)}"
        raise ValueError(message)
    ring, degree = key_ring_for(parameters), parameters.degree
    secret_key = derive(seed, b"he secret v1", context)
    secret = ring.forward(ring.reduce(ternary(secret_key, degree).astype(np.int64)))
    error_key = derive(seed, b"he error v1", context)
    error = ring.forward(ring.reduce(centred_binomial(error_key, degree).astype(np.int64)))
    mask = ring.multiply(public_a(parameters, context), secret)
    return HolderSecrets(
        parameters=parameters,
        holder=holder,
        context=context,
        seed=seed,
        opening=ring.subtract(error, mask),
        polynomial=np.stack([secret, *_sharing_coefficients(parameters, seed, context)]),
    )


def _sharing_coefficients(parameters: Parameters, seed: bytes, context: bytes) -> list[Residues]:
    return [
        uniform_residues(
            derive(seed, b"he sharing v1", context, _u32(power)),
            parameters.key_primes,
            parameters.degree,
        )
        for power in range(1, parameters.threshold)
    ]


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)
