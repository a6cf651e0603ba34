"""Our own encryption against SEAL's steps on whole integers, one after the other."""

import numpy as np
import pytest

from he import numpy_engine
from he.decode import embed
from he.numpy_engine import NumpyEngine, small_polynomials
from he.parameters import PACKINGS, PRESET_NAMES, Parameters
from he.public_key import PublicKey
from he.ring import Residues, key_ring_for, ring_for
from he.sampling import centred_binomial, derive, ternary
from tests.he_material import draw_key, preset_parameters

KEY = bytes(range(32))


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


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("chunks", [1, 7])
def test_every_residue_is_seals(packing: str, chunks: int) -> None:
    parameters = preset_parameters("ckks-4096", packing=packing)
    key = draw_key(parameters, seed=5)[0]
    values = np.random.default_rng(6).uniform(-1, 1, (chunks, parameters.chunk_values))
    ours = NumpyEngine(key).encrypt(values, KEY)
    expected = encrypted_step_by_step(key, values, draws(parameters, chunks))
    assert np.array_equal(ours[0], expected[0])
    assert np.array_equal(ours[1], expected[1])


def test_more_primes_than_a_float_holds() -> None:
    parameters = preset_parameters("ckks-8192")
    key = draw_key(parameters, seed=7)[0]
    values = np.random.default_rng(8).uniform(-1, 1, (1, 8192))
    ours = NumpyEngine(key).encrypt(values, KEY)
    expected = encrypted_step_by_step(key, values, draws(parameters, 1))
    assert np.array_equal(ours[0], expected[0])
    assert np.array_equal(ours[1], expected[1])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "packing"), [(PRESET_NAMES[0], "complex"), *((p, "coefficients") for p in PRESET_NAMES)]
)
def test_extreme_draws_and_keys_are_exact(name: str, packing: str, sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of u at ±1, all errors at ±21, all residues of the key at p-1 or at p/2."""
    parameters = preset_parameters(name, packing=packing)
    primes = np.array(parameters.key_primes, dtype=np.uint32)[:, None]
    top, middle = (np.broadcast_to(edge, (len(primes), parameters.degree)).copy() for edge in (primes - 1, primes // 2))
    key = PublicKey(parameters, top, middle)
    monkeypatch.setattr(numpy_engine, "ternary", lambda _, count: np.full(count, sign, dtype=np.int8))
    monkeypatch.setattr(numpy_engine, "centred_binomial", lambda _, count: np.full(count, 21 * sign, dtype=np.int8))
    values = np.full((2, parameters.degree), -sign * parameters.clip)
    ours = NumpyEngine(key).encrypt(values, KEY)
    small = [np.full((2, parameters.degree), bound * sign) for bound in (1, 21, 21)]
    expected = encrypted_step_by_step(key, values, small)
    assert np.array_equal(ours[0], expected[0])
    assert np.array_equal(ours[1], expected[1])
