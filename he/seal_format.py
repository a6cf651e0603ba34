"""SEAL 4.x serialisation: ciphertexts, public keys and encryption parameters.

Every object is a 16-byte header (magic, sizes, version, compression mode, total bytes) and a body
that is plain, zlib or zstd. We write plain bodies and read all three; no length in the bytes
leads to an allocation before it is checked. Readers raise `FormatError` and nothing else.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard

from he.errors import FormatError

HEADER: Final = struct.Struct("<HBBBBHQ")
_MAGIC: Final = 0xA15E
_VERSION_MAJOR: Final = 4
_VERSION_MINOR: Final = 3  # SEAL loads its own minor version only; this is the one inside TenSEAL 0.3.18
_SCHEME_CKKS: Final = 2

# parms_id, NTT flag, polynomials, N, primes, scale, correction factor
_MEMBERS: Final = struct.Struct("<32s?QQQdQ")
_COUNT: Final = struct.Struct("<Q")
_CIPHERTEXT_OVERHEAD: Final = _MEMBERS.size + HEADER.size + _COUNT.size

_PARAMETER_MEMBERS: Final = struct.Struct("<BQQ")  # scheme, N, primes
_MAX_PRIMES: Final = 64
_PARAMETERS_LIMIT: Final = _PARAMETER_MEMBERS.size + (_MAX_PRIMES + 1) * (HEADER.size + 8)

_MAX_WINDOW_BYTES: Final = 1 << 23  # of zstd: above any body that our presets have


class Compression(IntEnum):
    """The compression modes of SEAL's header."""

    NONE = 0
    ZLIB = 1
    ZSTD = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class SealCiphertext:
    """SEAL's own view of a ciphertext or a public key, structurally sound but not yet judged.

    `polynomials` is uint64 (size, primes, N), values as they came; `parms_id` has 32 bytes.
    """

    parms_id: bytes
    ntt_form: bool
    scale: float
    correction_factor: int
    polynomials: npt.NDArray[np.uint64]


def parms_id(degree: int, primes: tuple[int, ...]) -> bytes:
    """BLAKE2b-256 over scheme, N, primes and the (zero) plain modulus, as SEAL computes it."""
    words = (_SCHEME_CKKS, degree, *primes, 0)
    return blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=32).digest()


def read_ciphertext(data: bytes | memoryview, *, max_words: int) -> SealCiphertext:
    """Parse a ciphertext or public key whose polynomials hold at most `max_words` residues."""
    body = _read_body(data, limit=_CIPHERTEXT_OVERHEAD + 8 * max_words)
    if len(body) < _CIPHERTEXT_OVERHEAD:
        raise FormatError(f"ciphertext body of {len(body)} bytes is too short")
    identity, flag, size, degree, primes, scale, correction = _unpack_members(body)
    words = size * degree * primes
    if words == 0:
        raise FormatError(f"ciphertext of {size}x{primes}x{degree} residues holds nothing")
    array = _plain_part(body[_MEMBERS.size :], HEADER.size + _COUNT.size + 8 * words)
    (count,) = _COUNT.unpack_from(array)
    if count != words:
        raise FormatError(f"array of {count} residues where {words} are announced")
    flat = np.frombuffer(array, dtype="<u8", offset=_COUNT.size)
    return SealCiphertext(
        parms_id=identity,
        ntt_form=flag,
        scale=scale,
        correction_factor=correction,
        polynomials=flat.reshape(size, primes, degree).astype(np.uint64, copy=False),
    )


def write_ciphertext(ciphertext: SealCiphertext) -> bytes:
    """Serialise without compression: `24 + 73 + 16` bytes and 8 for each residue."""
    size, primes, degree = ciphertext.polynomials.shape
    members = _MEMBERS.pack(
        ciphertext.parms_id,
        ciphertext.ntt_form,
        size,
        degree,
        primes,
        ciphertext.scale,
        ciphertext.correction_factor,
    )
    residues = ciphertext.polynomials.astype("<u8", copy=False).tobytes()
    array_bytes = HEADER.size + _COUNT.size + len(residues)
    total_bytes = HEADER.size + len(members) + array_bytes
    count = _COUNT.pack(ciphertext.polynomials.size)
    return b"".join([_header(total_bytes), members, _header(array_bytes), count, residues])


def read_encryption_parameters(data: bytes | memoryview) -> tuple[int, tuple[int, ...]]:
    """Degree and key primes of serialised CKKS encryption parameters."""
    body = _read_body(data, limit=_PARAMETERS_LIMIT)
    if len(body) < _PARAMETER_MEMBERS.size:
        raise FormatError("encryption parameters are too short")
    scheme, degree, count = _PARAMETER_MEMBERS.unpack_from(body)
    moduli = body[_PARAMETER_MEMBERS.size :]
    modulus_bytes = HEADER.size + 8
    if scheme != _SCHEME_CKKS or count > _MAX_PRIMES or len(moduli) != (count + 1) * modulus_bytes:
        raise FormatError("encryption parameters are not those of CKKS, or of a wrong length")
    parts = [moduli[start : start + modulus_bytes] for start in range(0, len(moduli), modulus_bytes)]
    *primes, plain_modulus = (_COUNT.unpack(_plain_part(part, modulus_bytes))[0] for part in parts)
    if plain_modulus:
        raise FormatError("CKKS has no plain modulus")
    return degree, tuple(primes)


def write_encryption_parameters(degree: int, primes: tuple[int, ...]) -> bytes:
    """Serialise CKKS encryption parameters over all key primes, without compression."""
    modulus_bytes = HEADER.size + 8
    moduli = b"".join(_header(modulus_bytes) + _COUNT.pack(modulus) for modulus in (*primes, 0))
    members = _PARAMETER_MEMBERS.pack(_SCHEME_CKKS, degree, len(primes))
    return _header(HEADER.size + len(members) + len(moduli)) + members + moduli


def _unpack_members(body: memoryview) -> tuple[bytes, bool, int, int, int, float, int]:
    if body[32] > 1:
        raise FormatError(f"NTT flag is {body[32]}")
    identity, flag, size, degree, primes, scale, correction = _MEMBERS.unpack_from(body)
    if not (math.isfinite(scale) and scale > 0):
        raise FormatError(f"scale is {scale!r}")
    return identity, flag, size, degree, primes, scale, correction


def _header(total_bytes: int) -> bytes:
    return HEADER.pack(_MAGIC, HEADER.size, _VERSION_MAJOR, _VERSION_MINOR, Compression.NONE, 0, total_bytes)


def _read_header(data: memoryview) -> Compression:
    if len(data) < HEADER.size:
        raise FormatError(f"{len(data)} bytes are too few for a SEAL header")
    magic, header_bytes, major, _minor, mode, reserved, total_bytes = HEADER.unpack_from(data)
    if (magic, header_bytes, reserved) != (_MAGIC, HEADER.size, 0):
        raise FormatError("not a SEAL object")
    if major != _VERSION_MAJOR:
        raise FormatError(f"SEAL {major}.x bytes; {_VERSION_MAJOR}.x are read")
    if total_bytes != len(data):
        raise FormatError(f"header announces {total_bytes} bytes, {len(data)} are there")
    if mode not in tuple(Compression):
        raise FormatError(f"unknown compression mode {mode}")
    return Compression(mode)


def _plain_part(data: memoryview, part_bytes: int) -> memoryview:
    """Return the body of an object nested in another: exactly that long, never compressed."""
    if len(data) != part_bytes or _read_header(data) is not Compression.NONE:
        raise FormatError("nested object has a wrong length or is compressed")
    return data[HEADER.size :]


def _read_body(data: bytes | memoryview, *, limit: int) -> memoryview:
    view = memoryview(data)
    mode = _read_header(view)
    body = view[HEADER.size :]
    if mode is Compression.ZLIB:
        body = memoryview(_inflate(body, limit))
    elif mode is Compression.ZSTD:
        body = memoryview(_unpack_zstd(body, limit))
    if len(body) > limit:
        raise FormatError(f"body of {len(body)} bytes exceeds {limit}")
    return body


def _inflate(body: memoryview, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise FormatError(f"zlib body: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise FormatError("zlib body is cut, too long, or followed by other bytes")
    return plain


def _unpack_zstd(body: memoryview, limit: int) -> bytes:
    try:
        announced = zstandard.frame_content_size(body)
        if announced > limit:
            raise FormatError(f"zstd body announces {announced} bytes, at most {limit} are read")
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        return unpacker.decompress(body, max_output_size=limit, allow_extra_data=False)
    except (zstandard.ZstdError, ValueError) as error:
        raise FormatError(f"zstd body: {error}") from None
