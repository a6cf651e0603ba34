"""CRT composition and the canonical embedding."""

import cmath
import math

import numpy as np
import pytest

from he import decode
from he.parameters import Parameters
from he.ring import ring_for
from tests.he_material import preset_parameters


def residues_of(parameters: Parameters, integers: list[int]) -> np.ndarray:
    """NTT residues (1, L, N) of one polynomial with these leading coefficients."""
    padded = integers + [0] * (parameters.degree - len(integers))
    rows = [[x % prime for x in padded] for prime in parameters.data_primes]
    return ring_for(parameters).forward(np.array([rows], dtype=np.uint32))


@pytest.mark.parametrize("name", ["ckks-4096", "ckks-8192"])
def test_coefficients_are_centred_integers(name: str) -> None:
    parameters = preset_parameters(name)
    half = (parameters.data_modulus - 1) // 2
    small = [0, 1, -1, 2**52, -(2**52), 123456789, -(2**52) - 1, parameters.data_primes[0] // 2 + 1]
    large = [half, -half, 2**70 + 12345, -(2**78) + 1, half // 3]
    read = decode.coefficients(parameters, residues_of(parameters, small + large))[0]
    assert read[: len(small)].tolist() == small
    for value, expected in zip(read[len(small) :].tolist(), large, strict=False):
        assert value == pytest.approx(float(expected), rel=2**-51)
    assert not read[len(small) + len(large) :].any()


def test_many_chunks_are_composed_in_order() -> None:
    parameters = preset_parameters("ckks-4096", packing="real")
    block = np.concatenate([residues_of(parameters, [index, -index]) for index in range(35)])
    read = decode.coefficients(parameters, block)
    assert read[:, :2].tolist() == [[index, -index] for index in range(35)]
    assert decode.slots(parameters, read).shape == (35, parameters.slots)


def test_slot_is_the_value_at_a_power_of_three_of_the_root() -> None:
    parameters = preset_parameters("ckks-4096", packing="real")
    coefficients = np.random.default_rng(5).normal(size=(1, parameters.degree))
    read = decode.slots(parameters, coefficients * parameters.scale)[0]
    for slot in (0, 1, 2, 777, parameters.slots - 1):
        exponent = pow(3, slot, 2 * parameters.degree)
        at = cmath.exp(1j * math.pi * exponent / parameters.degree)
        expected = np.polynomial.polynomial.polyval(at, coefficients[0]).real
        assert read[slot] == pytest.approx(expected, abs=1e-9)


def test_complex_slots_hold_two_values_each() -> None:
    """Value 2j is the real part of slot j, value 2j + 1 the imaginary part."""
    parameters = preset_parameters("ckks-4096", packing="complex")
    coefficients = np.random.default_rng(5).normal(size=(1, parameters.degree))
    read = decode.slots(parameters, coefficients * parameters.scale)[0]
    for slot in (0, 1, 2, 777, parameters.slots - 1):
        exponent = pow(3, slot, 2 * parameters.degree)
        at = cmath.exp(1j * math.pi * exponent / parameters.degree)
        expected = np.polynomial.polynomial.polyval(at, coefficients[0])
        assert read[2 * slot : 2 * slot + 2] == pytest.approx([expected.real, expected.imag], abs=1e-9)


@pytest.mark.parametrize("name", ["ckks-4096", "ckks-8192"])
def test_values_in_coefficients_are_read_off(name: str) -> None:
    parameters = preset_parameters(name)
    values = np.random.default_rng(5).normal(size=(2, parameters.degree))
    assert np.array_equal(decode.decode(parameters, values * parameters.scale), values)


@pytest.mark.parametrize("packing", ["complex", "real"])
def test_embed_is_the_inverse_of_slots(packing: str) -> None:
    parameters = preset_parameters("ckks-4096", packing=packing)
    values = np.random.default_rng(6).uniform(-1, 1, (19, parameters.chunk_values))
    coefficients = decode.embed(parameters, values)
    assert np.abs(coefficients).max() <= parameters.entry_bound * parameters.scale
    assert decode.slots(parameters, coefficients) == pytest.approx(values, abs=1e-12)
    assert np.array_equal(decode.decode(parameters, coefficients), decode.slots(parameters, coefficients))
