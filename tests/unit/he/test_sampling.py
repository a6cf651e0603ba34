"""Samplers are exact in distribution, and the same for whoever holds the key."""

import hmac
import math
from hashlib import sha256

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from he.sampling import (
    Keystream,
    centred_binomial,
    derive,
    expand_public,
    framed,
    ternary,
    uniform_residues,
    word_buffer,
)

KEY = bytes(range(32))
PRIMES = (134012929, 268369921)


def test_the_keystream_is_aes_256_ctr_from_zero() -> None:
    expected = Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(1000))
    stream = Keystream(KEY)
    assert stream.read(300).tobytes() + stream.read(700).tobytes() == expected


def test_the_keystream_goes_on_beyond_its_own_block_of_zeros() -> None:
    count = (1 << 18) + 77
    expected = Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(count))
    assert Keystream(KEY).read(count).tobytes() == expected


def test_words_are_the_stream_in_little_endian() -> None:
    raw, words = word_buffer(10)
    Keystream(KEY).fill(raw)
    assert words.tobytes() == Keystream(KEY).read(80).tobytes()


def test_a_keystream_takes_no_short_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(b"short")


def test_derivations_differ_by_seed_label_and_every_part_of_the_context() -> None:
    made = {
        derive(KEY, b"a"),
        derive(KEY, b"b"),
        derive(bytes(32), b"a"),
        derive(KEY, b"a", b""),
        derive(KEY, b"a", b"xy"),
        derive(KEY, b"a", b"x", b"y"),
        derive(KEY, b"ax", b"y"),
    }
    assert len(made) == 7
    assert all(len(key) == 32 for key in made)


def test_derivation_is_rfc_5869() -> None:
    """Extract without salt, expand once."""
    info = framed(b"label", b"context")
    pseudorandom = hmac.digest(bytes(32), KEY, "sha256")
    assert derive(KEY, b"label", b"context") == hmac.digest(pseudorandom, info + b"\x01", "sha256")


def test_uniform_residues_fill_their_range_evenly() -> None:
    drawn = uniform_residues(KEY, PRIMES, 1 << 16)
    assert drawn.shape == (2, 1 << 16)
    assert drawn.dtype == np.uint32
    for row, prime in zip(drawn, PRIMES, strict=True):
        assert row.max() < prime
        counts = np.bincount((row.astype(np.int64) * 64 // prime), minlength=64)
        chi_square = ((counts - 1024.0) ** 2 / 1024).sum()
        assert chi_square < 120  # 63 degrees of freedom: beyond once in 10^5


def test_uniform_residues_do_not_depend_on_how_many_are_drawn() -> None:
    assert np.array_equal(uniform_residues(KEY, PRIMES, 4096)[:, :100], uniform_residues(KEY, PRIMES, 100))


def test_the_largest_and_the_smallest_residue_both_come_up() -> None:
    drawn = uniform_residues(KEY, (5, 7), 1000)
    assert set(drawn[0]) == set(range(5))
    assert set(drawn[1]) == set(range(7))


def test_a_is_never_zero_anywhere() -> None:
    drawn = expand_public(sha256(b"context").digest(), (5, 7), 1000)
    assert set(drawn[0]) == set(range(1, 5))
    assert set(drawn[1]) == set(range(1, 7))


def test_ternary_coefficients_are_even() -> None:
    drawn = ternary(KEY, 1 << 20)
    assert drawn.dtype == np.int8
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [-1, 0, 1]
    assert np.abs(counts / (1 << 20) - 1 / 3).max() < 0.0015


def test_errors_have_seals_deviation_and_bound() -> None:
    drawn = centred_binomial(KEY, 1 << 16).astype(float)
    assert abs(drawn.mean()) < 0.06
    assert abs(drawn.std() - np.sqrt(10.5)) < 0.05
    assert np.abs(drawn).max() <= 21


def test_errors_are_binomial_to_the_tail() -> None:
    """21 bits up, 21 bits down: C(42, 21 + x) / 2^42 for each x."""
    count = 1 << 18
    drawn = centred_binomial(KEY, count).astype(int)
    expected = np.array([math.comb(42, 21 + x) for x in range(-12, 13)]) / 2**42 * count
    observed = np.bincount(np.clip(drawn, -12, 12) + 12, minlength=25)
    within = expected >= 5
    chi_square = ((observed - expected) ** 2 / expected)[within][1:-1].sum()
    assert chi_square < 55  # at most 22 degrees of freedom: beyond once in 10^4


def test_errors_are_the_words_of_the_stream_bit_by_bit() -> None:
    """Across the pieces in which they are drawn, too."""
    count = (1 << 14) + 100
    words = Keystream(KEY).read(8 * count).view("<u8")
    for index in (0, 1, (1 << 14) - 1, 1 << 14, count - 1):
        bits = [int(words[index]) >> position & 1 for position in range(42)]
        assert centred_binomial(KEY, count)[index] == sum(bits[:21]) - sum(bits[21:])


def test_ternaries_are_the_bytes_of_the_stream_without_255() -> None:
    drawn = Keystream(KEY).read(5000)
    fitting = drawn[drawn < 255].astype(int) % 3 - 1
    assert np.array_equal(ternary(KEY, 4900), fitting[:4900])
    assert np.array_equal(ternary(KEY, 1000), fitting[:1000])


def test_ternaries_go_on_where_a_first_draw_falls_short() -> None:
    count = 1 << 16
    first = Keystream(KEY).read(count)
    assert (first == 255).any()
    both = Keystream(KEY).read(2 * count)
    fitting = both[both < 255].astype(int) % 3 - 1
    assert np.array_equal(ternary(KEY, count), fitting[:count])
