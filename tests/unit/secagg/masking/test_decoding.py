"""Wrong shares are located as long as they are no more than half of what is there beyond the threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.masking.decoding import fitting_shares
from secagg.masking.shamir import PRIME, deal, recover
from secagg.masking.stream import MaskStream, Words

SECRET = bytes(range(32))


def dealt(count: int, threshold: int, seed: int = 0) -> tuple[Words, Words]:
    """Return points and shares, uint32 (count, 9), of one secret."""
    draws = np.random.default_rng(seed)
    points = np.sort(draws.choice(np.arange(1, 1500, dtype=np.uint32), count, replace=False))
    return points, deal([SECRET], threshold=threshold, points=points, stream=MaskStream(draws.bytes(32)))[0]


@given(data=st.data(), count=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_no_wrong_share_passes_and_enough_right_ones_do(data: st.DataObject, count: int, seed: int) -> None:
    threshold = data.draw(st.integers(1, count))
    wrong = data.draw(st.sets(st.integers(0, count - 1), max_size=(count - threshold) // 2))
    points, shares = dealt(count, threshold, seed)
    values = shares[:, 0].copy()
    for place in wrong:
        values[place] = (int(values[place]) + data.draw(st.integers(1, PRIME - 1))) % PRIME
    fits = fitting_shares(points, values, threshold)
    assert fits is not None
    assert not fits[sorted(wrong)].any()
    good = np.flatnonzero(fits)[:threshold]
    assert recover(points[good], shares[good]) == SECRET


def test_at_the_bound_exactly_the_wrong_ones_are_left_out() -> None:
    points, shares = dealt(95, 53)
    wrong = np.random.default_rng(1).choice(95, 21, replace=False)
    values = shares[:, 4].copy()
    values[wrong] ^= 1
    fits = fitting_shares(points, values % np.uint32(PRIME), 53)
    assert fits is not None
    assert sorted(np.flatnonzero(~fits)) == sorted(wrong)


@pytest.mark.parametrize(("count", "threshold"), [(4, 5), (0, 1)])
def test_fewer_shares_than_the_threshold_say_nothing(count: int, threshold: int) -> None:
    points, values = np.arange(1, count + 1, dtype=np.uint32), np.zeros(count, dtype=np.uint32)
    assert fitting_shares(points, values, threshold) is None


def test_noise_lies_on_no_polynomial() -> None:
    draws = np.random.default_rng(2)
    points, values = np.arange(1, 41, dtype=np.uint32), draws.integers(0, PRIME, 40, dtype=np.uint32)
    assert fitting_shares(points, values, 11) is None
