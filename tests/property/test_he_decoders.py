"""Every decoder of SEAL's and TenSEAL's bytes: any bytes are refused by one type, or mean one thing."""

from collections.abc import Callable
from functools import cache

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from he.ciphertext import Ciphertext, chunk_from_bytes, chunk_to_bytes, chunk_to_seal
from he.errors import CiphertextError, FormatError
from he.public_key import PublicKey
from he.seal_format import read_ciphertext, read_encryption_parameters, write_encryption_parameters
from he.tenseal_format import read_context, read_vector
from tests.he_material import draw_key, random_ciphertext, small_parameters

PARAMETERS = small_parameters()
WORDS = 2 * len(PARAMETERS.data_primes) * PARAMETERS.degree

DECODERS: dict[str, Callable[[bytes], object]] = {
    "seal ciphertext": lambda data: read_ciphertext(data, max_words=WORDS),
    "encryption parameters": read_encryption_parameters,
    "vector": lambda data: read_vector(data, max_chunks=PARAMETERS.chunks),
    "context": read_context,
    "contribution": lambda data: Ciphertext.from_tenseal(PARAMETERS, data),
    "chunk": lambda data: chunk_from_bytes(PARAMETERS, data),
    "public key": lambda data: PublicKey.from_bytes(PARAMETERS, public_key().a, data),
}

# those two also judge what they read
JUDGES = ("contribution", "chunk")


@cache
def public_key() -> PublicKey:
    return draw_key(PARAMETERS, seed=1)[0]


@cache
def sound_bytes(kind: str) -> bytes:
    contribution = random_ciphertext(PARAMETERS, 1)
    sound: dict[str, Callable[[], bytes]] = {
        "seal ciphertext": lambda: chunk_to_seal(PARAMETERS, contribution.c0[0], contribution.c1[0]),
        "encryption parameters": lambda: write_encryption_parameters(PARAMETERS.degree, PARAMETERS.key_primes),
        "vector": contribution.to_tenseal,
        "context": public_key().to_tenseal,
        "contribution": contribution.to_tenseal,
        "chunk": lambda: chunk_to_bytes(contribution.c0[0]),
        "public key": public_key().to_bytes,
    }
    return sound[kind]()


kinds = st.sampled_from(sorted(DECODERS))


def decodes_or_refuses(kind: str, data: bytes) -> None:
    refusals = (FormatError, CiphertextError) if kind in JUDGES else (FormatError,)
    try:
        DECODERS[kind](data)
    except refusals:
        return


@given(kind=kinds, data=st.binary(max_size=300))
def test_arbitrary_bytes(kind: str, data: bytes) -> None:
    decodes_or_refuses(kind, data)


@given(kind=kinds, cut=st.integers(0, 1 << 20), extra=st.binary(max_size=8))
def test_cut_and_lengthened_bytes(kind: str, cut: int, extra: bytes) -> None:
    sound = sound_bytes(kind)
    decodes_or_refuses(kind, sound[: cut % (len(sound) + 1)] + extra)


@given(
    kind=kinds,
    changes=st.lists(
        st.tuples(st.one_of(st.integers(0, 200), st.integers(0, 1 << 20)), st.integers(0, 255)), min_size=1, max_size=4
    ),
)
def test_changed_bytes(kind: str, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(sound_bytes(kind))
    for at, byte in changes:
        changed[at % len(changed)] = byte
    decodes_or_refuses(kind, bytes(changed))


@given(seed=st.integers(0, 1 << 32))
def test_contributions_and_keys_read_back(seed: int) -> None:
    contribution = random_ciphertext(PARAMETERS, seed)
    read = Ciphertext.from_tenseal(PARAMETERS, contribution.to_tenseal())
    assert np.array_equal(read.c0, contribution.c0)
    assert np.array_equal(read.c1, contribution.c1)
    assert np.array_equal(chunk_from_bytes(PARAMETERS, chunk_to_bytes(read.c1[0])), read.c1[0])
    assert PublicKey.from_bytes(PARAMETERS, public_key().a, public_key().to_bytes()).digest() == public_key().digest()
