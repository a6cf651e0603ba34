"""SEAL's serialisation: what is read, what is written, and every length that may lie."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard

from he.errors import FormatError
from he.seal_format import (
    HEADER,
    Compression,
    SealCiphertext,
    parms_id,
    read_ciphertext,
    read_encryption_parameters,
    write_ciphertext,
    write_encryption_parameters,
)

DEGREE, PRIMES = 8, 2
WORDS = 2 * PRIMES * DEGREE
MEMBERS = HEADER.size  # offset of parms_id; NTT flag at +32, then size, N, primes, scale, correction
ARRAY = MEMBERS + 73
FLOOD = bytes(1 << 22)


def plain() -> bytes:
    polynomials = np.arange(WORDS, dtype=np.uint64).reshape(2, PRIMES, DEGREE)
    return write_ciphertext(
        SealCiphertext(
            parms_id=bytes(range(32)), ntt_form=True, scale=2.0**40, correction_factor=1, polynomials=polynomials
        )
    )


def packed(mode: Compression, body: bytes) -> bytes:
    return HEADER.pack(0xA15E, 16, 4, 3, mode, 0, HEADER.size + len(body)) + body


def patched(data: bytes, offset: int, patch: bytes) -> bytes:
    return data[:offset] + patch + data[offset + len(patch) :]


@pytest.mark.parametrize(
    "data",
    [
        plain(),
        packed(Compression.ZLIB, zlib.compress(plain()[16:])),
        packed(Compression.ZSTD, zstandard.compress(plain()[16:])),
        packed(Compression.ZSTD, zstandard.ZstdCompressor(write_content_size=False).compress(plain()[16:])),
    ],
    ids=["none", "zlib", "zstd", "zstd without size"],
)
def test_all_three_bodies_are_read(data: bytes) -> None:
    read = read_ciphertext(data, max_words=WORDS)
    assert read.parms_id == bytes(range(32))
    assert (read.ntt_form, read.scale, read.correction_factor) == (True, 2.0**40, 1)
    assert read.polynomials.shape == (2, PRIMES, DEGREE)
    assert read.polynomials.reshape(-1).tolist() == list(range(WORDS))
    assert write_ciphertext(read) == plain()


@pytest.mark.parametrize(
    ("offset", "patch"),
    [
        (0, b"\x00\x00"),  # magic
        (2, b"\x11"),  # header size
        (3, b"\x03"),  # major version
        (5, b"\x03"),  # compression mode
        (6, b"\x01"),  # reserved
        (8, struct.pack("<Q", 7)),  # total size
        (MEMBERS + 32, b"\x02"),  # NTT flag
        (MEMBERS + 33, struct.pack("<Q", 3)),  # size
        (MEMBERS + 33, struct.pack("<Q", 0)),
        (MEMBERS + 41, struct.pack("<Q", 1 << 63)),  # N
        (MEMBERS + 49, struct.pack("<Q", 1)),  # primes
        (MEMBERS + 57, struct.pack("<d", float("nan"))),  # scale
        (MEMBERS + 57, struct.pack("<d", -1.0)),
        (ARRAY, b"\x00\x00"),  # nested magic
        (ARRAY + 5, b"\x02"),  # nested compression
        (ARRAY + 8, struct.pack("<Q", 1)),  # nested size
        (ARRAY + 16, struct.pack("<Q", WORDS // 2)),  # count: what a seeded ciphertext has
    ],
)
def test_no_field_may_lie(offset: int, patch: bytes) -> None:
    with pytest.raises(FormatError):
        read_ciphertext(patched(plain(), offset, patch), max_words=WORDS)


def test_bytes_may_neither_miss_nor_follow() -> None:
    body = plain()[16:]
    cases = [
        b"",
        plain()[:15],
        plain()[:-1],
        plain() + b"\0",
        packed(Compression.NONE, body[:50]),
        packed(Compression.ZLIB, zlib.compress(body)[:-1]),
        packed(Compression.ZLIB, zlib.compress(body) + b"\0"),
        packed(Compression.ZLIB, b"no zlib"),
        packed(Compression.ZSTD, zstandard.compress(body)[:-1]),
        packed(Compression.ZSTD, zstandard.compress(body) + b"\0"),
        packed(Compression.ZSTD, b"no zstd"),
        packed(Compression.ZSTD, b""),
        packed(Compression.ZSTD, zstandard.compress(b"")),
    ]
    for data in cases:
        with pytest.raises(FormatError):
            read_ciphertext(data, max_words=WORDS)


@pytest.mark.parametrize(
    "data",
    [
        packed(Compression.ZSTD, zstandard.compress(FLOOD)),
        packed(Compression.ZSTD, zstandard.ZstdCompressor(write_content_size=False).compress(FLOOD)),
        packed(Compression.ZLIB, zlib.compress(FLOOD)),
    ],
    ids=["zstd", "zstd without size", "zlib"],
)
def test_a_small_message_never_unfolds_into_a_large_one(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            read_ciphertext(data, max_words=WORDS)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < len(FLOOD) // 8


def test_dimensions_that_multiply_to_nothing_are_refused() -> None:
    for size, degree, primes in ((0, 1 << 62, 1 << 62), (2, 0, 1 << 63), (2, 1 << 63, 0)):
        members = struct.pack("<32s?QQQdQ", bytes(32), True, size, degree, primes, 1.0, 1)
        array = packed(Compression.NONE, struct.pack("<Q", 0))
        with pytest.raises(FormatError, match="holds nothing"):
            read_ciphertext(packed(Compression.NONE, members + array), max_words=WORDS)


def test_more_residues_than_allowed_are_refused() -> None:
    with pytest.raises(FormatError, match="exceeds"):
        read_ciphertext(plain(), max_words=WORDS - 1)


def test_parms_id_is_the_one_in_seals_own_bytes() -> None:
    # from a TenSEAL 0.3.18 ciphertext and public key under ckks-4096
    primes = (134012929, 134111233, 134176769, 268369921)
    assert parms_id(4096, primes[:3]).hex() == "1bd64e5a228877d01c2e6efa685a61394fb31b5b2daf8a1a2bcd51e0f134b2ed"
    assert parms_id(4096, primes).hex() == "420428be12f676871a4c1cd17a391848e1d53c161ad238aa93cafe2eafd5b57d"


def test_encryption_parameters_round_trip() -> None:
    assert read_encryption_parameters(write_encryption_parameters(4096, (17, 19))) == (4096, (17, 19))


@pytest.mark.parametrize(
    ("offset", "patch"),
    [
        (16, b"\x01"),  # BFV
        (25, struct.pack("<Q", 3)),  # one prime more than there are
        (25, struct.pack("<Q", 1 << 62)),
        (33, b"\x00"),  # nested magic
        (33 + 2 * 24 + 16, struct.pack("<Q", 5)),  # plain modulus
    ],
)
def test_encryption_parameters_may_not_lie(offset: int, patch: bytes) -> None:
    with pytest.raises(FormatError):
        read_encryption_parameters(patched(write_encryption_parameters(4096, (17, 19)), offset, patch))


def test_encryption_parameters_may_not_be_cut_or_huge() -> None:
    for data in (packed(Compression.NONE, b"\x02"), packed(Compression.NONE, bytes(1 << 16))):
        with pytest.raises(FormatError):
            read_encryption_parameters(data)
