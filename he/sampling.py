"""Deterministic sampling from 32-byte keys: whoever learns the key replays the very same draw.

A key is used for one stream only: `derive` makes as many as are needed from a seed. All samplers
take words off the stream in order and keep the first that fit, so their result does not depend on
how much of the stream is read at once.

Source: docs/protocol.md, section "Key ceremony" (DESIGN 4.2).
"""

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
ERROR_ETA: Final = 21  # the variance of SEAL's own error, 21/2: deviation 3.24

_ZEROS: Final = bytes(1 << 18)
_BLOCK_SLACK: Final = 15  # what update_into may ask for beyond the length of its input
_TERNARY_LIMIT: Final = 255  # 3 · 85: bytes below it are uniform modulo 3
_PLUS_MASK: Final = np.uint64((1 << ERROR_ETA) - 1)
_MINUS_MASK: Final = np.uint64(((1 << ERROR_ETA) - 1) << ERROR_ETA)
_PIECE_WORDS: Final = 1 << 14  # 128 KiB of stream, which stay in the cache

Small = npt.NDArray[np.int8]


class Keystream:
    """AES-256-CTR from counter zero under a key of its own."""

    def __init__(self, key: bytes) -> None:
        """Start the stream of `key` (32 bytes)."""
        if len(key) != KEY_BYTES:
            message = f"a keystream needs a key of {KEY_BYTES} bytes, not {len(key)}"
            raise ValueError(message)
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def read(self, count_bytes: int) -> npt.NDArray[np.uint8]:
        """Return the next `count_bytes` of the stream as a fresh uint8 array."""
        out = np.empty(count_bytes + _BLOCK_SLACK, dtype=np.uint8)
        self.fill(out)
        return out[:count_bytes]

    def fill(self, buffer: npt.NDArray[np.uint8]) -> None:
        """Write the next bytes over all of `buffer` (uint8) but its last 15, which are scratch."""
        view = buffer.data
        end = len(view) - _BLOCK_SLACK
        for start in range(0, end, len(_ZEROS)):
            take = min(len(_ZEROS), end - start)
            self._encryptor.update_into(memoryview(_ZEROS)[:take], view[start:])


def word_buffer(count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """Memory for `Keystream.fill` that is read as `count` little-endian uint64 words."""
    raw = np.empty(8 * count + _BLOCK_SLACK, dtype=np.uint8)
    words: npt.NDArray[np.uint64] = raw[: 8 * count].view("<u8")
    return raw, words


def derive(seed: bytes, label: bytes, *context: bytes) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869): `label` is a constant, `context` binds the use.

    Every part enters with its length, so that no two lists of parts collide.
    """
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=framed(label, *context)).derive(seed)


def framed(*parts: bytes) -> bytes:
    """Concatenate byte strings, each behind its length: an injective encoding of the list."""
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def uniform_residues(
    key: bytes, primes: Sequence[int], degree: int, *, nonzero: bool = False
) -> npt.NDArray[np.uint32]:
    """Exactly uniform residues of shape (len(primes), degree), uint32, below each prime.

    For each prime a stream of its own; words are cut to the prime's bit length, those outside
    [0, p) (or [1, p) when `nonzero`) are passed over.
    """
    rows = [
        _uniform_row(derive(key, b"he uniform residues v1", _u32(index)), prime, degree, nonzero)
        for index, prime in enumerate(primes)
    ]
    return np.stack(rows)


def _uniform_row(key: bytes, prime: int, count: int, nonzero: bool) -> npt.NDArray[np.uint32]:  # noqa: FBT001 - private
    stream, lowest = Keystream(key), 1 if nonzero else 0
    mask = np.uint32((1 << prime.bit_length()) - 1)
    kept = np.empty(0, dtype=np.uint32)
    while len(kept) < count:
        words = stream.read(4 * count).view("<u4") & mask
        fitting = words[(words >= lowest) & (words < prime)]
        kept = np.concatenate([kept, fitting])
    return kept[:count]


def expand_public(digest: bytes, primes: Sequence[int], degree: int) -> npt.NDArray[np.uint32]:
    """Expand a public digest (32 bytes) to the polynomial `a`, NTT form, (len(primes), degree).

    Uniform among the *invertible* elements: where `a` is zero, a trial decryption would prove
    nothing about the shares.
    """
    return uniform_residues(derive(digest, b"he public a v1"), primes, degree, nonzero=True)


def ternary(key: bytes, count: int) -> Small:
    """Exactly uniform coefficients in {-1, 0, 1}: shape (count,), int8."""
    stream, kept = Keystream(key), 0
    coefficients = np.empty(count, dtype=np.uint8)
    while kept < count:
        drawn = stream.read(count)
        fitting = drawn[drawn < _TERNARY_LIMIT][: count - kept]
        np.remainder(fitting, np.uint8(3), out=coefficients[kept : kept + len(fitting)])
        kept += len(fitting)
    coefficients -= np.uint8(1)  # 0 wraps to 255, which is -1
    return coefficients.view(np.int8)


def centred_binomial(key: bytes, count: int) -> Small:
    """Centred binomial coefficients, eta 21 (deviation 3.24): shape (count,), int8.

    The bits 0..20 of a word count up, the bits 21..41 count down: with those inverted, all ones
    of the word are counted at once, and 21 is taken off.
    """
    stream = Keystream(key)
    out = np.empty(count, dtype=np.uint8)
    raw, words = word_buffer(min(count, _PIECE_WORDS))
    for start in range(0, count, _PIECE_WORDS):
        piece = words[: count - start]
        stream.fill(raw[: piece.nbytes + _BLOCK_SLACK])
        piece ^= _MINUS_MASK
        piece &= _PLUS_MASK | _MINUS_MASK
        np.bitwise_count(piece, out=out[start : start + len(piece)])
    out -= np.uint8(ERROR_ETA)
    return out.view(np.int8)


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)
