"""Shamir sharing of 32-byte secrets over GF(p), p = 2^31 - 1, limb by limb and on whole arrays.

A secret, read as a little-endian number, is 9 limbs of 30 bits, the last of 16; each limb is the
constant term of a polynomial of its own. All products of residues stay below 2^62, so uint64 is
exact. A share is the 9 values at one point; zero, where the secret is, is never a point.

Source: Shamir 1979; Bonawitz et al. 2017, section 3.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from secagg.errors import MessageError, UsageError
from secagg.masking.stream import MaskStream, Words

PRIME: Final = (1 << 31) - 1
LIMBS: Final = 9
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 4 * LIMBS
PAIR_BYTES: Final = 2 * SHARE_BYTES
TAG_BYTES: Final = 16
SEALED_PAIR_BYTES: Final = PAIR_BYTES + TAG_BYTES
"""What `sealing.seal` makes of a pair of shares; here, where the coordinator may look."""

_LIMB_BITS: Final = 30
_LIMB_BOUNDS: Final = np.array([1 << _LIMB_BITS] * (LIMBS - 1) + [1 << 16], dtype=np.uint64)
_P: Final = np.uint64(PRIME)
_SPARE_WORDS: Final = 16

Residues = npt.NDArray[np.uint64]


def deal(secrets: Sequence[bytes], *, threshold: int, points: Words, stream: MaskStream) -> Words:
    """Share every secret: any `threshold` shares recover it, fewer say nothing about it.

    Args:
        secrets: m secrets of 32 bytes each.
        threshold: t, 1 to the number of points.
        points: uint32 (n,), distinct, from 1 to p - 1.
        stream: where the coefficients come from, from word 0 on: nothing else may ever use it.

    Returns:
        Shares, uint32 (m, n, 9): `[i, j]` is what the holder of `points[j]` gets of secret i.

    Raises:
        UsageError: anything that is not as said above.
    """
    _check_dealing(secrets, threshold, points)
    coefficients = _uniform((len(secrets), threshold - 1, LIMBS), stream)
    limbs = _limbs_of(secrets)
    at = points.astype(np.uint64)[None, :, None]
    values = np.zeros((len(secrets), len(points), LIMBS), dtype=np.uint64)
    for power in range(threshold - 1, 0, -1):
        values += coefficients[:, power - 1, None]
        values *= at
        values %= _P
    values += limbs[:, None]
    values %= _P
    return values.astype(np.uint32)


def recover(points: Words, shares: Words) -> bytes:
    """Return the secret, 32 bytes, that exactly these shares give; it may not be the one dealt.

    Args:
        points: uint32 (t,), distinct, from 1 to p - 1.
        shares: uint32 (t, 9), each limb below p.

    Raises:
        MessageError: points or shares that no dealing gives, or shares that give no secret.
    """
    secret = recover_many(points, shares[None])[0]
    if secret is None:
        raise MessageError("these shares belong to no secret of 32 bytes")
    return secret


def recover_many(points: Words, shares: Words) -> list[bytes | None]:
    """As `recover`, for m secrets with the same points: shares are uint32 (m, t, 9).

    Returns the m secrets, with None where the shares give no secret.
    """
    _check_recovery(points, shares)
    weights = _weights_at_zero(points)
    terms = shares.astype(np.uint64)
    terms *= weights[None, :, None]
    terms %= _P
    limbs = terms.sum(axis=1, dtype=np.uint64) % _P
    canonical = (limbs < _LIMB_BOUNDS).all(axis=1)
    return [_secret_of(row) if good else None for row, good in zip(limbs, canonical, strict=True)]


def encode_share(share: Words) -> bytes:
    """Return 36 bytes, 9 little-endian uint32, for one share, uint32 (9,)."""
    return share.astype("<u4").tobytes()


def decode_share(data: bytes) -> Words:
    """Return one share, uint32 (9,). Raises `MessageError` unless it is 36 bytes with limbs below p."""
    if len(data) != SHARE_BYTES:
        raise MessageError(f"a share has {SHARE_BYTES} bytes, not {len(data)}")
    share = np.frombuffer(data, dtype="<u4").astype(np.uint32)
    if (share >= PRIME).any():
        raise MessageError("a share holds a number that is not below 2^31 - 1")
    return share


def _check_dealing(secrets: Sequence[bytes], threshold: int, points: Words) -> None:
    if any(len(secret) != SECRET_BYTES for secret in secrets):
        raise UsageError(f"only secrets of {SECRET_BYTES} bytes can be shared")
    if not 1 <= threshold <= len(points):
        raise UsageError(f"a threshold of {threshold} is impossible with {len(points)} shares")
    if not _are_points(points):
        raise UsageError("points of shares must be distinct and from 1 to 2^31 - 2")


def _check_recovery(points: Words, shares: Words) -> None:
    if shares.ndim != 3 or shares.shape[1:] != (len(points), LIMBS):
        raise MessageError(f"{len(points)} points do not fit shares of shape {shares.shape}")
    if not len(points) or not _are_points(points):
        raise MessageError("points of shares must be distinct and from 1 to 2^31 - 2")
    if (shares >= PRIME).any():
        raise MessageError("a share holds a number that is not below 2^31 - 1")


def _are_points(points: Words) -> bool:
    distinct = len(np.unique(points)) == len(points)
    return distinct and bool(((points > 0) & (points < PRIME)).all())


def _uniform(shape: tuple[int, ...], stream: MaskStream) -> Residues:
    """Uniform residues: words of the stream cut to 31 bits, in order, without those equal to p."""
    needed = int(np.prod(shape))
    drawn, kept = 0, np.empty(0, dtype=np.uint32)
    while len(kept) < needed:
        count = needed - len(kept) + _SPARE_WORDS
        words = stream.words(drawn, count) & np.uint32(PRIME)
        kept = np.concatenate([kept, words[words != PRIME]])
        drawn += count
    return kept[:needed].reshape(shape).astype(np.uint64)


def _limbs_of(secrets: Sequence[bytes]) -> Residues:
    """(m, 9): limb i is bits 30·i to 30·i + 29."""
    numbers = [int.from_bytes(secret, "little") for secret in secrets]
    limbs = [[number >> (_LIMB_BITS * limb) & ((1 << _LIMB_BITS) - 1) for limb in range(LIMBS)] for number in numbers]
    return np.array(limbs, dtype=np.uint64).reshape(len(secrets), LIMBS)


def _secret_of(limbs: Residues) -> bytes:
    number = sum(value << (_LIMB_BITS * limb) for limb, value in enumerate(limbs.tolist()))
    return int(number).to_bytes(SECRET_BYTES, "little")


def _weights_at_zero(points: Words) -> Residues:
    """Lagrange weights w with sum w[i]·f(points[i]) = f(0) modulo p, (t,)."""
    at = points.astype(np.uint64)
    differences = (at[None, :] + _P - at[:, None]) % _P
    # the factor x_i - x_i, which does not belong in the product
    np.fill_diagonal(differences, 1)
    everyone = _product(at[:, None])
    # x_i · prod (x_j - x_i), so that one product of all points serves every weight
    denominators = _product(differences.T) * at % _P
    return everyone * _inverse(denominators) % _P


def _product(rows: Residues) -> Residues:
    """Product over the first axis modulo p."""
    product = np.ones(rows.shape[1:], dtype=np.uint64)
    for row in rows:
        product *= row
        product %= _P
    return product


def _inverse(values: Residues) -> Residues:
    """Inverses modulo p by Fermat: the exponent p - 2 is 2^31 - 3, all ones but for bit 1."""
    result = np.ones_like(values)
    for bit in range(30, -1, -1):
        result = result * result % _P
        if (PRIME - 2) >> bit & 1:
            result = result * values % _P
    return result
