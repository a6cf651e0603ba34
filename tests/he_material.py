"""Keys and parameters for tests of the lattice layer: one known secret, no threshold."""

import secrets

import numpy as np
import numpy.typing as npt

from he.ciphertext import Ciphertext
from he.decode import coefficients, decode
from he.encrypt import SEED_BYTES, Encryptor
from he.parameters import Parameters, fit, preset
from he.public_key import PublicKey
from he.ring import Residues, key_ring_for, ring_for

SMALL_PRIMES = (134111233, 134176769)
"""SEAL's primes for N = 2048 and bit sizes [27, 27]."""


def small_parameters(**changes: float) -> Parameters:
    """The smallest ring that TenSEAL takes at 128 bits: N = 2048, one data prime."""
    numbers = {"values": 3000, "max_clients": 4, "holders": 3, "threshold": 2, "clip": 1.0, "security_bits": 1}
    return fit(
        "small-2048",
        degree=2048,
        data_primes=SMALL_PRIMES[:1],
        special_prime=SMALL_PRIMES[1],
        **(numbers | changes),  # type: ignore[arg-type]
    )


def preset_parameters(name: str, values: int = 5000, max_clients: int = 8, packing: str = "coefficients") -> Parameters:
    """A preset for 3 of 5 holders."""
    return preset(name, values=values, max_clients=max_clients, holders=5, threshold=3, packing=packing)


def encrypted(public_key: PublicKey, vector: npt.ArrayLike, *, engine: str = "numpy") -> Ciphertext:
    """The vector under fresh randomness."""
    return Encryptor(public_key, engine=engine, seed=secrets.token_bytes(SEED_BYTES)).encrypt(vector)


def draw_key(parameters: Parameters, seed: int, parties: int = 1) -> tuple[PublicKey, Residues]:
    """A public key and its secret, a sum of ternary ones, uint32 (L+1, N) in NTT form."""
    generator = np.random.default_rng(seed)
    ring = key_ring_for(parameters)
    ternaries = generator.integers(-1, 2, (parties, parameters.degree))
    secret = ring.forward(ring.reduce(ternaries.sum(axis=0)))
    error = ring.forward(ring.reduce(generator.integers(-5, 6, parameters.degree)))
    a = random_residues(parameters.key_primes, parameters.degree, generator)
    return PublicKey(parameters, a, ring.subtract(error, ring.multiply(a, secret))), secret


def random_residues(primes: tuple[int, ...], degree: int, generator: np.random.Generator, *lead: int) -> Residues:
    """Uniform uint32 (*lead, L, N)."""
    columns = [generator.integers(0, prime, (*lead, degree), dtype=np.uint32) for prime in primes]
    return np.stack(columns, axis=-2)


def random_ciphertext(parameters: Parameters, seed: int) -> Ciphertext:
    """Uniform residues: a sound contribution as far as anyone without the key can tell."""
    generator = np.random.default_rng(seed)
    half = (parameters.data_primes, parameters.degree, generator, parameters.chunks)
    return Ciphertext(parameters, random_residues(*half), random_residues(*half))


def open_alone(ciphertext: Ciphertext, secret: Residues) -> np.ndarray:
    """Decrypt with the whole secret: float64 (values,)."""
    parameters = ciphertext.parameters
    ring = ring_for(parameters)
    opened = ring.add(ciphertext.c0, ring.multiply(ciphertext.c1, secret[: len(parameters.data_primes)]))
    return decode(parameters, coefficients(parameters, opened)).reshape(-1)[: parameters.values]
