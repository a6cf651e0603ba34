"""Laws of our own encryption, for any length, block and packing."""

import secrets
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from he.encrypt import SEED_BYTES, Encryptor
from he.parameters import PACKINGS
from he.public_key import PublicKey
from he.ring import ring_for
from tests.he_material import draw_key, encrypted, open_alone, small_parameters

KEY, SECRET = draw_key(small_parameters(), seed=1)
packings = st.sampled_from(PACKINGS)
lengths = st.integers(1, 40 * 1024)
seeds = st.integers(0, 1 << 32)


def key_for(values: int, packing: str) -> PublicKey:
    return PublicKey(small_parameters(values=values, packing=packing), KEY.a, KEY.b)


@settings(max_examples=20)
@given(lengths, packings, seeds)
def test_a_sum_of_ciphertexts_opens_to_the_sum(values: int, packing: str, seed: int) -> None:
    key = key_for(values, packing)
    parameters, ring = key.parameters, ring_for(key.parameters)
    vectors = np.random.default_rng(seed).uniform(-1, 1, (2, values))
    first, second = (encrypted(key, vector) for vector in vectors)
    total = type(first)(parameters, ring.add(first.c0, second.c0), ring.add(first.c1, second.c1))
    met = 1 if packing == "coefficients" else parameters.degree / 2  # coefficients that meet in a value
    # the key of this test is one ternary secret, of a third of the budget's variance; two half steps of the grid at most
    tolerance = (8 * np.sqrt(met) * parameters.noise_deviation(2) + 1) / parameters.scale
    assert np.abs(open_alone(total, SECRET) - vectors.sum(axis=0)).max() < tolerance


@settings(max_examples=20)
@given(lengths, packings, st.randoms(use_true_random=False))
def test_blocks_in_any_order_are_the_whole(values: int, packing: str, random: Random) -> None:
    key, seed = key_for(values, packing), secrets.token_bytes(SEED_BYTES)
    vector = np.linspace(-1, 1, values)
    whole, encryptor = Encryptor(key, seed=seed).encrypt(vector), Encryptor(key, seed=seed)
    order = list(range(encryptor.blocks))
    random.shuffle(order)
    for index in order:
        chunks = slice(*encryptor.block_bounds(index))
        c0, c1 = encryptor.encrypt_block(vector, index)
        assert np.array_equal(c0, whole.c0[chunks])
        assert np.array_equal(c1, whole.c1[chunks])
