"""Known answers made by TenSEAL alone (tools/make_he_vectors.py): parsing, NTT order, sums, decoding."""

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from he.accumulate import Accumulator
from he.ciphertext import Ciphertext, chunk_from_seal
from he.errors import CiphertextError, FormatError
from he.parameters import Parameters, fit
from he.public_key import PublicKey
from he.ring import Residues, key_ring_for
from he.seal_format import HEADER, parms_id, read_ciphertext, read_encryption_parameters
from he.tenseal_format import read_context, read_vector
from tests.he_material import open_alone

FOLDER = Path(__file__).parent / "he"
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text())
ERRORS = {"FormatError": FormatError, "CiphertextError": CiphertextError}
SETS = ["small", "preset"]


def content(name: str, what: str) -> bytes:
    return (FOLDER / f"{name}.{what}").read_bytes()


def parameters_of(name: str) -> Parameters:
    chosen = INDEX[name]
    *data_primes, special_prime = chosen["primes"]
    fitted = fit(
        name,
        degree=chosen["degree"],
        data_primes=tuple(data_primes),
        special_prime=special_prime,
        values=chosen["values"],
        max_clients=2,
        holders=3,
        threshold=2,
        clip=1.0,
        packing="real",
        security_bits={"small": 1, "preset": 40}[name],
    )
    return replace(fitted, scale=chosen["scale"])


def secret_of(name: str) -> Residues:
    """SEAL's secret in SEAL's NTT form, uint32 (key primes, N)."""
    flat = np.frombuffer(zstandard.decompress(content(name, "secret.u32.zst")), dtype="<u4")
    return flat.reshape(len(INDEX[name]["primes"]), -1).astype(np.uint32)


def vector_of(name: str, what: str) -> Ciphertext:
    return Ciphertext.from_tenseal(parameters_of(name), content(name, f"{what}.ckksvector"))


@pytest.mark.parametrize("name", SETS)
def test_ntt_order_is_seals(name: str) -> None:
    """Only in the right order and with the right root is SEAL's secret ternary, and one for all primes."""
    ring = key_ring_for(parameters_of(name))
    coefficients = ring.inverse(secret_of(name)).astype(np.int64)
    primes = np.array(ring.primes)[:, None]
    centred = np.where(coefficients > primes // 2, coefficients - primes, coefficients)
    assert set(np.unique(centred)) == {-1, 0, 1}
    assert (centred == centred[0]).all()
    assert np.array_equal(ring.forward(ring.reduce(centred[0])), secret_of(name))


@pytest.mark.parametrize(
    ("name", "what"), [("small", "first"), ("small", "second"), ("small", "total"), ("preset", "total")]
)
def test_parsing_yields_every_residue_in_order(name: str, what: str) -> None:
    read = vector_of(name, what)
    canonical = np.stack([read.c0, read.c1], axis=1).astype("<u4").tobytes()
    assert hashlib.sha256(canonical).hexdigest() == INDEX[name]["residues_sha256"][what]


def test_sum_is_tenseals() -> None:
    total = Accumulator(parameters_of("small"))
    for what in ("first", "second"):
        total.add(vector_of("small", what))
    expected = vector_of("small", "total")
    assert np.array_equal(total.finish().c0, expected.c0)
    assert np.array_equal(total.finish().c1, expected.c1)


@pytest.mark.parametrize("name", SETS)
def test_decoding_gives_what_tenseal_decrypts(name: str) -> None:
    opened = open_alone(vector_of(name, "total"), secret_of(name))
    decrypted = np.frombuffer(content(name, "total.f64"), dtype="<f8")
    assert opened == pytest.approx(decrypted, abs=1e-11)
    plain = np.frombuffer(content(name, "plain.f64"), dtype="<f8").reshape(2, -1)
    assert opened == pytest.approx(plain.sum(axis=0), abs=1e-2 if name == "small" else 1e-11)


def test_tenseals_public_context() -> None:
    parameters = parameters_of("small")
    context = read_context(content("small", "context"))
    assert context.scale == parameters.scale
    assert read_encryption_parameters(context.encryption_parameters) == (2048, parameters.key_primes)
    key = read_ciphertext(context.public_key, max_words=2 * 2 * 2048)
    assert key.parms_id == parms_id(2048, parameters.key_primes)
    assert (key.ntt_form, key.scale, key.correction_factor) == (True, 1.0, 1)


def test_tenseals_public_key_is_ours() -> None:
    """With b = -a·s + e and small e, the order of the two polynomials, and of the primes, is SEAL's."""
    parameters = parameters_of("small")
    data = read_context(content("small", "context")).public_key
    b, a = read_ciphertext(data, max_words=2 * 2 * 2048).polynomials.astype(np.uint32)
    public = PublicKey(parameters, a, b)
    ring = key_ring_for(parameters)
    error = ring.inverse(ring.add(public.b, ring.multiply(public.a, secret_of("small")))).astype(np.int64)
    primes = np.array(ring.primes)[:, None]
    assert np.minimum(error, primes - error).max() < 64
    rewritten = read_context(public.to_tenseal())
    again = read_ciphertext(rewritten.public_key, max_words=2 * 2 * 2048)
    assert np.array_equal(again.polynomials, np.stack([b, a]))


def plain_chunk() -> bytes:
    """The first chunk of "small" behind a plain header."""
    packed = bytes(read_vector(content("small", "first.ckksvector"), max_chunks=2).ciphertexts[0])
    body = zstandard.decompress(packed[HEADER.size :])
    return packed[:5] + b"\0" + packed[6:8] + struct.pack("<Q", HEADER.size + len(body)) + body


@pytest.mark.parametrize("case", INDEX["chunk_errors"], ids=lambda case: case["name"])
def test_one_wrong_field_is_refused(case: dict[str, Any]) -> None:
    data = bytearray(plain_chunk())
    chunk_from_seal(parameters_of("small"), bytes(data))
    patch = bytes.fromhex(case["patch"])
    assert data[case["offset"] : case["offset"] + len(patch)] != patch
    data[case["offset"] : case["offset"] + len(patch)] = patch
    with pytest.raises(ERRORS[case["error"]]):
        chunk_from_seal(parameters_of("small"), bytes(data))


def test_a_vector_of_the_other_set_is_refused() -> None:
    with pytest.raises((CiphertextError, FormatError)):
        Ciphertext.from_tenseal(parameters_of("preset"), content("small", "total.ckksvector"))
