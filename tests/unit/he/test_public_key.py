"""The collective key as bytes, and as a TenSEAL context."""

from dataclasses import replace

import numpy as np
import pytest
import tenseal

from he.errors import FormatError, ParameterError
from he.parameters import Parameters
from he.public_key import PublicKey
from he.ring import Residues
from tests.he_material import preset_parameters

Key = tuple[PublicKey, Residues]


def test_tenseal_loads_the_context_and_finds_no_secret_in_it(key: Key, parameters: Parameters) -> None:
    context = tenseal.context_from(key[0].to_tenseal())
    assert context.is_public()
    assert context.has_public_key()
    assert not context.has_secret_key()
    assert not context.has_galois_keys()
    assert not context.has_relin_keys()
    assert context.global_scale == parameters.scale


def test_bytes_round_trip(key: Key, parameters: Parameters) -> None:
    read = PublicKey.from_bytes(parameters, key[0].a, key[0].to_bytes())
    assert np.array_equal(read.b, key[0].b)
    assert read.digest() == key[0].digest()


def test_digest_binds_parameters_and_both_polynomials(key: Key, parameters: Parameters) -> None:
    public = key[0]
    changed = public.b.copy()
    changed[-1, -1] ^= 1
    others = [
        PublicKey(parameters, public.b, public.a),
        PublicKey(parameters, public.a, changed),
        PublicKey(replace(parameters, threshold=2), public.a, public.b),
    ]
    assert len({public.digest(), *(other.digest() for other in others)}) == 4


def test_bad_bytes_are_a_format_error(key: Key, parameters: Parameters) -> None:
    data = key[0].to_bytes()
    for wrong in (b"", data[:-1], data + b"\0", b"\xff" * 4 + data[4:], data[:-4] + b"\xff" * 4):
        with pytest.raises(FormatError):
            PublicKey.from_bytes(parameters, key[0].a, wrong)


def test_arrays_of_another_ring_are_refused(key: Key, parameters: Parameters) -> None:
    a, b = key[0].a, key[0].b
    for wrong in (b[:-1], b.astype(np.uint64), np.full_like(b, 0xFFFFFFFF)):
        with pytest.raises(ParameterError):
            PublicKey(parameters, a, wrong)
        with pytest.raises(ParameterError):
            PublicKey(parameters, wrong, b)
    with pytest.raises(ParameterError):
        PublicKey(preset_parameters("ckks-8192"), a, b)
