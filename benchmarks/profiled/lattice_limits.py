"""What bounds the hot paths of `ckks`."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from tenseal import sealapi

from benchmarks.profiled.lattice import OPENED, half_of, parameters_of
from benchmarks.profiled.limits import Limits, Work, keystream
from he.parameters import Parameters
from he.smudging import WORDS_PER_COEFFICIENT, subsets_with

BATCH_POLYNOMIALS = 4
"""Of one product: an operand stays in the second-level cache."""


class Products:
    """The matrix products of so many transforms of one polynomial and prime: both halves of both steps, in float64."""

    def __init__(self, parameters: Parameters, transforms: int) -> None:
        rows = 1 << (parameters.degree.bit_length() - 1) // 2
        columns = parameters.degree // rows
        generator = np.random.default_rng(0)
        self._left = generator.uniform(-1, 1, (2 * rows, rows))
        self._right = generator.uniform(-1, 1, (columns, 2 * columns))
        self._operand = generator.uniform(-1, 1, (BATCH_POLYNOMIALS, rows, columns))
        self._rounds = -(-transforms // BATCH_POLYNOMIALS)

    def __call__(self) -> None:
        for _ in range(self._rounds):
            np.matmul(self._left, self._operand)
            np.matmul(self._operand.reshape(-1, self._operand.shape[-1]), self._right)


def _partial(case: Mapping[str, Any]) -> Work:
    """One forward transform of the noise for each prime, and the keystreams that the noise is drawn from."""
    parameters = parameters_of(case)
    products = Products(parameters, parameters.chunks * len(parameters.data_primes))
    subsets = len(subsets_with(parameters.holders, parameters.threshold, OPENED[0]))
    drawn = parameters.chunks * parameters.degree * subsets * WORDS_PER_COEFFICIENT * 8

    def run() -> None:
        products()
        keystream(drawn)

    return run


def _recovery(case: Mapping[str, Any]) -> Work:
    """One inverse transform for each prime."""
    parameters = parameters_of(case)
    return Products(parameters, parameters.chunks * len(parameters.data_primes))


def _encryption(case: Mapping[str, Any]) -> Work:
    """The transforms of SEAL's way: u by every prime, two back by the special one, both halves by every data prime."""
    parameters = parameters_of(case)
    data = len(parameters.data_primes)
    return Products(parameters, parameters.chunks * (data + 1 + 2 + 2 * data))


def _seal(case: Mapping[str, Any]) -> Work:
    """SEAL's own `Encryptor::encrypt` of as many chunks: no encoding, nothing serialised."""
    parameters = parameters_of(case)
    of_seal = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    of_seal.set_poly_modulus_degree(parameters.degree)
    of_seal.set_coeff_modulus([sealapi.Modulus(prime) for prime in parameters.key_primes])
    context = sealapi.SEALContext(of_seal, True, sealapi.SEC_LEVEL_TYPE.TC128)  # noqa: FBT003 - pybind names nothing
    public_key, plain = sealapi.PublicKey(), sealapi.Plaintext()
    sealapi.KeyGenerator(context).create_public_key(public_key)
    encryptor = sealapi.Encryptor(context, public_key)
    sealapi.CKKSEncoder(context).encode([0.5] * parameters.slots, 2.0**40, plain)
    encrypted = sealapi.Ciphertext()

    def run() -> None:
        for _ in range(parameters.chunks):
            encryptor.encrypt(plain, encrypted)

    return run


def _moving(case: Mapping[str, Any]) -> Work:
    """Numpy's own addition of as many residues as c0 has."""
    half = half_of(parameters_of(case))
    total = half.copy()
    return lambda: np.add(total, half, out=total)


def _hashing(case: Mapping[str, Any]) -> Work:
    """SHA-256 of both halves."""
    data = half_of(parameters_of(case)).tobytes()
    return lambda: [hashlib.sha256(data).digest() for _ in range(2)]


LIMITS: Mapping[str, Limits] = {
    "encryption": {
        "SEAL's kernel": (_seal, "`Encryptor::encrypt` of as many chunks; no encoding, nothing serialised"),
        "BLAS": (_encryption, "the matrix products of its transforms"),
    },
    "addition": {
        "bare SHA-256": (_hashing, "both halves hashed, for the roots that the client signed"),
        "numpy's addition": (_moving, "the residues of c0 added at memory's speed"),
    },
    "partial_decryption": {"BLAS and AES": (_partial, "the products of its transforms, the keystreams of its noise")},
    "recovery": {"BLAS": (_recovery, "the matrix products of its transforms")},
}
"""By path."""
