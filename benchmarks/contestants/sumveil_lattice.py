"""What the lattice layer is made of, over one vector's residues, and what bounds it: memory, and the keystream of AES.

`case`: {"values"}; ckks-4096. "count" says how many polynomials of one prime a run went through.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.stage import Prepare, Run, serve
from he.accumulate import ResidueAccumulator
from he.decode import coefficients, decode
from he.parameters import Parameters, preset
from he.residues import Residues
from he.ring import ring_for
from tests.he_material import random_residues

BUFFER_BYTES = 256 * 1024
Work = Callable[[], object]


def parameters_of(values: int) -> Parameters:
    return preset("ckks-4096", values=values, max_clients=1000, holders=5, threshold=3)


def half_of(parameters: Parameters) -> Residues:
    return random_residues(parameters.data_primes, parameters.degree, np.random.default_rng(0), parameters.chunks)


def transform(parameters: Parameters, half: Residues) -> Work:
    ring = ring_for(parameters)
    assert np.array_equal(ring.inverse(ring.forward(half)), half)
    return lambda: ring.forward(half)


def inverse(parameters: Parameters, half: Residues) -> Work:
    ring = ring_for(parameters)
    return lambda: ring.inverse(half)


def product(parameters: Parameters, half: Residues) -> Work:
    ring = ring_for(parameters)
    primes = np.array(parameters.data_primes, dtype=np.uint64)[:, None]
    assert np.array_equal(ring.multiply(half, half), half.astype(np.uint64) ** 2 % primes)
    return lambda: ring.multiply(half, half)


def verified_sum(parameters: Parameters, half: Residues) -> Work:
    total = ResidueAccumulator(parameters)
    return lambda: total.add(half)


def bare_sum(_: Parameters, half: Residues) -> Work:
    """The limit of a sum: numpy's own addition of as many words."""
    total = half.copy()
    return lambda: np.add(total, half, out=total)


def copy(_: Parameters, half: Residues) -> Work:
    """The limit of moving: as many bytes read and written."""
    target = np.empty_like(half)
    return lambda: np.copyto(target, half)


def keystream(_: Parameters, half: Residues) -> Work:
    """The limit of drawing: AES-256-CTR of as many bytes, into a buffer that stays in the cache."""
    zeros, piece = bytes(BUFFER_BYTES), bytearray(BUFFER_BYTES)

    def run() -> None:
        encryptor = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
        for begin in range(0, half.nbytes, BUFFER_BYTES):
            encryptor.update_into(memoryview(zeros)[: min(BUFFER_BYTES, half.nbytes - begin)], piece)

    return run


def composed(parameters: Parameters, half: Residues) -> Work:
    """Back from residues: inverse NTT and CRT."""
    return lambda: coefficients(parameters, half)


def read_out(parameters: Parameters, half: Residues) -> Work:
    """From coefficients to values, which lie in them."""
    opened = coefficients(parameters, half)
    return lambda: decode(parameters, opened)


def prepared(build: Callable[[Parameters, Residues], Work]) -> Prepare:
    def prepare(case: dict[str, Any]) -> Run:
        parameters = parameters_of(case["values"])
        half = half_of(parameters)
        work, count = build(parameters, half), half.shape[0] * half.shape[1]

        def run() -> dict[str, Any]:
            work()
            return {"count": count, "touched_bytes": half.nbytes}

        return run

    return prepare


WORKS: dict[str, Prepare] = {
    "NTT": prepared(transform),
    "inverse NTT": prepared(inverse),
    "product": prepared(product),
    "verify and add": prepared(verified_sum),
    "numpy's addition": prepared(bare_sum),
    "copy": prepared(copy),
    "AES-256-CTR": prepared(keystream),
    "inverse NTT and CRT": prepared(composed),
    "coefficients to values": prepared(read_out),
}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("sumveil", "numpy", "cryptography")})
