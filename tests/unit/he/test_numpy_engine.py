"""Our own encryption against SEAL's steps on whole integers, one after the other."""

import numpy as np
import pytest

from he import numpy_engine
from he.decode import embed
from he.numpy_engine import NumpyEngine, small_polynomials
from he.parameters import PACKINGS, PRESET_NAMES, Parameters
from he.public_key import PublicKey
from he.ring import Residues, batch_chunks, key_ring_for, ring_for
from he.sampling import centred_binomial, derive, ternary
from tests.he_material import draw_key, preset_parameters

KEY = bytes(range(32))


def two_batches(parameters: Parameters) -> int:
    """Chunks that take a whole batch and a smaller one."""
    batch = batch_chunks(parameters.degree)
    return batch + batch // 2 + 1


def switched_down(parameters: Parameters, x: Residues) -> Residues:
    """SEAL's modulus switch of coefficients (k, L+1, N): (x - centred(x mod P)) / P."""
    special, ring = parameters.special_prime, ring_for(parameters)
    remainder = x[:, -1].astype(np.int64)
    remainder -= special * (remainder > special // 2)
    inverse = np.array([pow(special, -1, prime) for prime in ring.primes], dtype=np.uint32)
    divided = ring.subtract(np.ascontiguousarray(x[:, :-1]), ring.reduce(remainder))
    return ring.multiply(divided, np.broadcast_to(inverse[:, None], divided.shape[1:]))


def message(parameters: Parameters, values: np.ndarray) -> list[list[int]]:
    """Whole coefficients: on the grid, or of the embedding."""
    if parameters.packing == "coefficients":
        multiple = int(parameters.scale) >> parameters.grid_bits
        return [[round(value * 2.0**parameters.grid_bits) * multiple for value in row] for row in values.tolist()]
    return [[int(m) for m in row] for row in np.rint(embed(parameters, values))]


def encrypted_step_by_step(key: PublicKey, values: np.ndarray, small: list[np.ndarray]) -> tuple[Residues, Residues]:
    parameters = key.parameters
    ring, data = key_ring_for(parameters), ring_for(parameters)
    u = ring.forward(ring.reduce(small[0]))
    c0, c1 = (
        switched_down(parameters, ring.add(ring.inverse(ring.multiply(u, half)), ring.reduce(error)))
        for half, error in zip((key.b, key.a), small[1:], strict=True)
    )
    rows = [[[m % prime for m in row] for prime in data.primes] for row in message(parameters, values)]
    return data.forward(data.add(c0, np.array(rows, dtype=np.uint32))), data.forward(c1)


def draws(parameters: Parameters, chunks: int) -> list[np.ndarray]:
    shape = (chunks, parameters.degree)
    labels = (b"he encryption u v1", b"he encryption e0 v1", b"he encryption e1 v1")
    samplers = (ternary, centred_binomial, centred_binomial)
    return [
        sample(derive(KEY, label), chunks * parameters.degree).reshape(shape)
        for sample, label in zip(samplers, labels, strict=True)
    ]


def test_u_and_both_errors_have_a_stream_each() -> None:
    """No ciphertext shows it: the division by P leaves of an error only whether it crosses a half."""
    ours = small_polynomials(KEY, 3, 4096)
    for drawn, expected in zip(ours, draws(preset_parameters("ckks-4096"), 3), strict=True):
        assert np.array_equal(drawn, expected)
    assert not np.array_equal(ours[1], ours[2])
    assert len({row.tobytes() for drawn in ours for row in drawn}) == 9


def assert_exact(key: PublicKey, values: np.ndarray, small: list[np.ndarray]) -> None:
    for ours, expected in zip(
        NumpyEngine(key).encrypt(values, KEY), encrypted_step_by_step(key, values, small), strict=True
    ):
        assert np.array_equal(ours, expected)


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_residue_is_seals(packing: str) -> None:
    parameters = preset_parameters("ckks-4096", packing=packing)
    key = draw_key(parameters, seed=5)[0]
    for chunks in (1, two_batches(parameters)):
        values = np.random.default_rng(6).uniform(-1, 1, (chunks, parameters.chunk_values))
        assert_exact(key, values, draws(parameters, chunks))


def test_more_primes_than_a_float_holds() -> None:
    parameters = preset_parameters("ckks-8192")
    key = draw_key(parameters, seed=7)[0]
    for chunks in (1, two_batches(parameters)):
        values = np.random.default_rng(8).uniform(-1, 1, (chunks, 8192))
        assert_exact(key, values, draws(parameters, chunks))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("edges", ["top, middle", "middle, top", "middle, middle"])
@pytest.mark.parametrize(
    ("name", "packing"), [(PRESET_NAMES[0], "complex"), *((p, "coefficients") for p in PRESET_NAMES)]
)
def test_extreme_draws_and_keys_are_exact(
    name: str, packing: str, edges: str, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of u at ±1, all errors at ±21, all residues of the key at p-1 or at p/2, where an error decides how P divides.

    The signs of the second batch are those of the first turned round: neither serves for the other.
    """
    parameters = preset_parameters(name, packing=packing)
    primes = np.array(parameters.key_primes, dtype=np.uint32)[:, None]
    half = {"top": primes - 1, "middle": primes // 2}
    key = PublicKey(
        parameters,
        *(np.broadcast_to(half[edge], (len(primes), parameters.degree)).copy() for edge in edges.split(", ")),
    )
    signs = np.full((two_batches(parameters), parameters.degree), sign, dtype=np.int8)
    signs[batch_chunks(parameters.degree) :] *= -1
    monkeypatch.setattr(numpy_engine, "ternary", lambda _, __: signs.reshape(-1))
    monkeypatch.setattr(numpy_engine, "centred_binomial", lambda _, __: 21 * signs.reshape(-1))
    assert_exact(key, -parameters.clip * signs, [bound * signs.astype(np.int64) for bound in (1, 21, 21)])
