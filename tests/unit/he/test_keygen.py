"""A key made in memory is the ceremony's key."""

import numpy as np
import pytest

from he.ceremony import public_a
from he.keygen import generate
from he.ring import key_ring_for, ring_for
from he.sharing import value_at_zero
from he.smudging import subsets_with
from tests.he_material import small_parameters

PARAMETERS = small_parameters(holders=4, threshold=3)


def test_the_same_randomness_makes_the_same_key() -> None:
    one, other = (generate(PARAMETERS, randomness=b"r" * 32) for _ in range(2))
    assert one[0].digest() == other[0].digest()
    assert [share.to_bytes() for share in one[1]] == [share.to_bytes() for share in other[1]]


def test_without_randomness_every_key_is_new() -> None:
    assert generate(PARAMETERS)[0].digest() != generate(PARAMETERS)[0].digest()


def test_other_parameters_make_another_key_of_the_same_randomness() -> None:
    other = small_parameters(holders=4, threshold=3, values=7)
    assert not np.array_equal(
        generate(PARAMETERS, randomness=bytes(32))[0].a, generate(other, randomness=bytes(32))[0].a
    )


def test_randomness_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        generate(PARAMETERS, randomness=b"short")


def test_the_shares_are_of_the_secret_behind_the_public_key() -> None:
    public_key, shares = generate(PARAMETERS, randomness=bytes(32))
    secret, agree = value_at_zero({s.holder: s.secret[None] for s in shares}, 3, PARAMETERS.data_primes)
    ring = ring_for(PARAMETERS)
    levels = len(PARAMETERS.data_primes)
    noise = ring.inverse(ring.add(public_key.b[:levels], ring.multiply(public_key.a[:levels], secret[0])))
    prime = PARAMETERS.data_primes[0]
    centred = np.where(noise[0] > prime // 2, noise[0].astype(int) - prime, noise[0])
    assert agree.all()
    assert np.abs(centred).max() <= 4 * 21


def test_every_share_has_its_holders_keys_and_one_key_id() -> None:
    shares = generate(PARAMETERS, randomness=bytes(32))[1]
    assert [share.holder for share in shares] == [1, 2, 3, 4]
    assert len({share.key_id for share in shares}) == 1
    assert all(set(share.smudging_keys) == set(subsets_with(4, 3, share.holder)) for share in shares)


def test_the_public_half_is_expanded_and_not_chosen() -> None:
    public_key, _ = generate(PARAMETERS, randomness=bytes(32))
    assert public_key.a.shape == public_a(PARAMETERS, bytes(32)).shape == (2, 2048)
    assert public_key.a.all()
    assert key_ring_for(PARAMETERS).primes == PARAMETERS.key_primes
