"""The protobuf around SEAL's objects."""

import struct

import pytest
import tenseal

from he.errors import FormatError
from he.seal_format import read_encryption_parameters
from he.tenseal_format import ContextBytes, VectorBytes, read_context, read_vector, write_context, write_vector

VECTOR = VectorBytes(sizes=(2048, 300), ciphertexts=(b"one", b"x" * 200), scale=2.0**70)
CONTEXT = ContextBytes(encryption_parameters=b"parameters", public_key=b"key", scale=2.0**70)
SCALE = b"\x19" + struct.pack("<d", 4.0)


def test_vector_round_trip() -> None:
    read = read_vector(write_vector(VECTOR), max_chunks=2)
    assert read == VECTOR


def test_unpacked_sizes_are_read_as_well() -> None:
    read = read_vector(b"\x08\x05\x12\x01a" + SCALE, max_chunks=1)
    assert (read.sizes, read.ciphertexts, read.scale) == ((5,), (b"a",), 4.0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",  # varint cut
        b"\xff" * 11,  # varint too long
        b"\x0a",  # length missing
        b"\x12\x05ab",  # payload cut
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # length beyond any memory
        b"\x19\x00\x00",  # double cut
        b"\x0b" + write_vector(VECTOR),  # group
        b"\x0d" + write_vector(VECTOR),  # fixed32
        b"\x20\x01" + SCALE,  # unknown field
        b"\x18\x01",  # scale as varint
        SCALE + SCALE,
        b"\x0a\x01\x05" + SCALE,  # a size without a ciphertext
        b"\x12\x01a" + SCALE,
        b"\x0a\x01\x05\x12\x01a",  # no scale
        b"\x0a\x01\x05\x12\x01a\x19" + struct.pack("<d", float("inf")),
        b"\x0a\x01\x05\x12\x01a\x19" + struct.pack("<d", 0.0),
        b"\x0a\x03\x05\x05\x05" + SCALE,  # more sizes than chunks
        b"\x08\x05" * 3 + SCALE,
        b"\x12\x01a" * 3 + SCALE,
        b"\x08\x05\x12\x01a" * 3 + SCALE,
    ],
)
def test_malformed_vectors(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_vector(data, max_chunks=2)


def test_context_round_trip() -> None:
    assert read_context(write_context(CONTEXT)) == CONTEXT


def test_tenseals_own_public_context_is_read() -> None:
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[27, 27, 27, 28])
    context.global_scale = 2.0**70
    data = context.serialize(save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False)
    read = read_context(data)
    assert read.scale == 2.0**70
    assert read_encryption_parameters(read.encryption_parameters) == (
        4096,
        (134012929, 134111233, 134176769, 268369921),
    )
    with pytest.raises(FormatError):
        read_context(context.serialize(save_secret_key=True))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a\x01a",
        b"\x0a\x01a\x12\x00",
        b"\x0a\x01a" + write_context(CONTEXT),  # parameters twice
        b"\x08\x01\x12\x00",
        write_context(CONTEXT) + b"\x1a\x00",  # a private part
        write_context(CONTEXT) + b"\x20\x01",  # symmetric
        b"\x0a\x01a\x12\x0e\x0a\x01k" + SCALE + b"\x2a\x00",  # galois keys
    ],
)
def test_malformed_contexts(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_context(data)
