"""Smudging noise that is safe to repeat: a function of the ciphertext, keyed by subsets of holders.

For every subset A of n-t+1 holders there is a key that its members hold. r_A is expanded from it
and from the ciphertext, so that a second answer to the same request carries no new noise; holder
j adds sum f_A(j)·r_A, points of one polynomial of degree t-1 with sum r_A at zero. Any t-1 holders
miss the key of their complement. One coefficient of r_A is the centred sum of four uniform words
of w = `smudging_word_bits` bits: exact integers of deviation sqrt((4^w - 1)/3).

Source: docs/protocol.md, section "Opening the sum" (DESIGN 4.4); pseudorandom secret sharing of
Cramer, Damgard, Ishai, TCC 2005.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from he.parameters import Parameters
from he.residues import Residues, residues_to_bytes
from he.sampling import Keystream, derive, word_buffer
from he.sharing import join_product, split_constants

Subset = tuple[int, ...]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

WORDS_PER_COEFFICIENT: Final = 4
ONE_LIMB_BITS: Final = 62  # the sum of four such words fits 64 bits
LOW_LIMB_BITS: Final = 32

_SLICES_PER_PRODUCT: Final = 32  # rows of one matrix product: 1 MiB of float64 for N = 4096


def smudging_subsets(holders: int, threshold: int) -> tuple[Subset, ...]:
    """All subsets of n-t+1 of the holders 1..n, in lexicographic order."""
    return tuple(combinations(range(1, holders + 1), holders - threshold + 1))


def subsets_with(holders: int, threshold: int, *members: int) -> tuple[Subset, ...]:
    """Those subsets that hold all of `members`, in lexicographic order."""
    wanted = set(members)
    return tuple(subset for subset in smudging_subsets(holders, threshold) if wanted <= set(subset))


def subset_weight(subset: Subset, holder: int, holders: int, prime: int) -> int:
    """f_A(holder) modulo `prime`: degree t-1, one at zero, zero at holders outside A."""
    weight = 1
    for absent in range(1, holders + 1):
        if absent not in subset:
            weight = weight * (absent - holder) * pow(absent, -1, prime) % prime
    return weight


def noise_key(subset_key: bytes, key_id: bytes, c1_chunk: Residues) -> bytes:
    """Key of one r_A: bound to the key, to the level and to the canonical c1 chunk (L, N)."""
    level = struct.pack("<I", c1_chunk.shape[0])
    return _noise_key(subset_key, key_id, level, sha256(residues_to_bytes(c1_chunk)).digest())


def _noise_key(subset_key: bytes, key_id: bytes, level: bytes, c1_digest: bytes) -> bytes:
    return derive(subset_key, b"he smudging v1", key_id, level, c1_digest)


def noise_limbs(key: bytes, degree: int, word_bits: int) -> tuple[tuple[Words, int], ...]:
    """Sums of four words as limbs (uint64 (degree,), shift): sum of limb·2^shift, >= 0.

    Subtract `noise_centre(word_bits)` for mean zero.
    """
    stream = Keystream(key)
    if word_bits <= ONE_LIMB_BITS:
        return ((_sum_of_words(stream, degree, word_bits), 0),)
    low = _sum_of_words(stream, degree, LOW_LIMB_BITS)
    high = _sum_of_words(stream, degree, word_bits - LOW_LIMB_BITS)
    return ((low, 0), (high, LOW_LIMB_BITS))


def noise_centre(word_bits: int) -> int:
    """Mean of the sum of four uniform words of `word_bits` bits; an integer."""
    return 2 * ((1 << word_bits) - 1)


def noise_integers(key: bytes, degree: int, word_bits: int) -> list[int]:
    """Coefficients of r_A as exact centred integers; for checks, slow."""
    limbs = noise_limbs(key, degree, word_bits)
    centre = noise_centre(word_bits)
    columns = zip(*(limb.tolist() for limb, _ in limbs), strict=True)
    shifts = [shift for _, shift in limbs]
    return [sum(part << shift for part, shift in zip(column, shifts, strict=True)) - centre for column in columns]


def _sum_of_words(stream: Keystream, degree: int, word_bits: int) -> Words:
    raw, words = word_buffer(WORDS_PER_COEFFICIENT * degree)
    stream.fill(raw)
    words &= np.uint64((1 << word_bits) - 1)
    total: Words = words.reshape(WORDS_PER_COEFFICIENT, degree).sum(axis=0, dtype=np.uint64)
    return total


class Smudger:
    """One holder's smudging term for chunks of c1, over the primes of one level."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        holder: int,
        key_id: bytes,
        subset_keys: Mapping[Subset, bytes],
        primes: tuple[int, ...],
    ) -> None:
        """Hold the keys of all subsets with `holder`; their size was fixed in the ceremony."""
        self._degree = parameters.degree
        self._word_bits = parameters.smudging_word_bits
        self._key_id = key_id
        self._primes = primes
        self._plan = _plan(parameters.holders, parameters.threshold, holder, self._word_bits, primes)
        self._keys = [subset_keys[subset] for subset in self._plan.subsets]

    def noise(self, c1_block: Residues) -> Residues:
        """Sum f_A(holder)·r_A for every chunk (k, L, N), as *coefficients*, uint32."""
        out = np.empty_like(c1_block)
        operand = np.empty((self._plan.slices_per_group, self._degree), dtype=np.float64)
        for index, chunk in enumerate(c1_block):
            self._add_up(chunk, operand, out[index])
        return out

    def _add_up(self, c1_chunk: Residues, operand: Floats, out: Residues) -> None:
        level = struct.pack("<I", len(self._primes))
        digest = sha256(residues_to_bytes(c1_chunk)).digest()
        levels = len(self._primes)
        product = np.zeros((2 * levels, self._degree), dtype=np.float64)
        product[levels:] += self._plan.offsets
        per_group = self._plan.subsets_per_group
        for group, weights in enumerate(self._plan.group_weights):
            keys = self._keys[group * per_group : (group + 1) * per_group]
            used = self._fill_slices([_noise_key(key, self._key_id, level, digest) for key in keys], operand)
            product += weights @ operand[:used]
        for row, prime in enumerate(self._primes):
            out[row] = join_product(product[row], product[levels + row], prime)

    def _fill_slices(self, noise_keys: Sequence[bytes], operand: Floats) -> int:
        """Split every limb into halves of 32 bits, exact in float64; returns the rows filled."""
        row = 0
        for key in noise_keys:
            for limb, _ in noise_limbs(key, self._degree, self._word_bits):
                halves = limb.astype("<u8", copy=False).view("<u4")
                operand[row], operand[row + 1] = halves[0::2], halves[1::2]
                row += 2
        return row


class _Plan:
    """Constants for one holder: weights of every slice of every subset, in exact groups.

    Halved constants stay within 2^13, slices below 2^32, and at most 70 subsets of three full
    slices meet in a sum: below 2^53, so every matrix product and the sum of all are exact.
    """

    def __init__(self, holders: int, threshold: int, holder: int, word_bits: int, primes: tuple[int, ...]) -> None:
        self.subsets = subsets_with(holders, threshold, holder)
        shifts = _slice_shifts(word_bits)
        self.subsets_per_group = _SLICES_PER_PRODUCT // len(shifts)
        self.slices_per_group = self.subsets_per_group * len(shifts)
        weights = [[subset_weight(subset, holder, holders, prime) for subset in self.subsets] for prime in primes]
        self.offsets = _offsets(weights, word_bits, primes)
        table = _slice_weights(weights, shifts, primes)
        starts = range(0, table.shape[1], self.slices_per_group)
        self.group_weights = [table[:, start : start + self.slices_per_group] for start in starts]


@lru_cache(maxsize=64)
def _plan(holders: int, threshold: int, holder: int, word_bits: int, primes: tuple[int, ...]) -> _Plan:
    return _Plan(holders, threshold, holder, word_bits, primes)


def _slice_shifts(word_bits: int) -> list[int]:
    """Powers of two that the slices of one r_A weigh: two slices of 32 bits for each limb."""
    return [0, 32] if word_bits <= ONE_LIMB_BITS else [0, 32, LOW_LIMB_BITS, LOW_LIMB_BITS + 32]


def _slice_weights(weights: Sequence[Sequence[int]], shifts: Sequence[int], primes: Sequence[int]) -> Floats:
    """Halves of f_A(j)·2^shift modulo each prime: (2L, subsets·slices), high halves first."""
    rows = [
        split_constants(np.array([[(weight << shift) % prime for weight in row for shift in shifts]]), prime)
        for row, prime in zip(weights, primes, strict=True)
    ]
    return np.concatenate([np.stack([high for high, _ in rows]), np.stack([low for _, low in rows])])


def _offsets(weights: Sequence[Sequence[int]], word_bits: int, primes: Sequence[int]) -> Floats:
    """Minus the mean of the combination modulo each prime: (L, 1), float64."""
    centre = noise_centre(word_bits)
    column = [[-centre * sum(row) % prime] for row, prime in zip(weights, primes, strict=True)]
    return np.array(column, dtype=np.float64)
