"""Masks on vectors: they cancel between two ends, come off exactly, and do not depend on how a vector is cut into pieces."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import MessageError, UsageError
from secagg.masking import masks as module
from secagg.masking.masks import MaskedSum, Masks, adds, masked_pieces, piece_bytes, pieces
from secagg.masking.parameters import MaskingParameters
from secagg.masking.quantise import quantise
from secagg.masking.stream import MaskStream

NOISE = b"n" * 32
PARAMETERS = MaskingParameters(values=45, max_clients=6, clip=1.0, value_bits=20)


def key(*parts: int) -> bytes:
    return bytes([*parts, *bytes(32 - len(parts))])


def vector(seed: int, values: int = 45) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, values)


def masked(seed: int, masks: Masks, parameters: MaskingParameters = PARAMETERS, noise: bytes = NOISE) -> list[bytes]:
    return list(masked_pieces(vector(seed, parameters.values), parameters, masks, noise))


def bare(seed: int, parameters: MaskingParameters = PARAMETERS) -> np.ndarray:
    values = vector(seed, parameters.values)
    return quantise(values, clip=parameters.clip, value_bits=parameters.value_bits, noise=MaskStream(NOISE))


def added_up(vectors: list[list[bytes]], parameters: MaskingParameters = PARAMETERS) -> MaskedSum:
    total = MaskedSum(parameters)
    for packed in vectors:
        for (start, stop), piece in zip(pieces(parameters), packed, strict=True):
            total.add(start, stop, piece)
    return total


def of_client(own: int, clients: int) -> Masks:
    """Masks with every other one, and one of its own."""
    pairs = {other: key(min(own, other), max(own, other), 1) for other in range(clients) if other != own}
    return Masks(
        added=(key(own, 2), *(pair for other, pair in pairs.items() if adds(own, other))),
        subtracted=tuple(pair for other, pair in pairs.items() if not adds(own, other)),
    )


def test_of_two_clients_one_adds_and_the_other_takes_off() -> None:
    for one, other in combinations(range(5), 2):
        assert adds(one, other) != adds(other, one)


@given(clients=st.integers(2, 6), seed=st.integers(0, 1000))
def test_pairwise_masks_cancel_and_self_masks_come_off(clients: int, seed: int) -> None:
    total = added_up([masked(seed + own, of_client(own, clients)) for own in range(clients)])
    own_masks = Masks(added=tuple(key(own, 2) for own in range(clients)))
    expected = sum(bare(seed + own).astype(np.uint64) for own in range(clients)) % (1 << PARAMETERS.sum_bits)
    assert not np.array_equal(total.quantised(), expected)
    for start, stop in pieces(PARAMETERS):
        total.take_off(start, stop, own_masks)
    assert np.array_equal(total.quantised(), expected)


def test_the_sum_is_that_of_the_vectors_but_for_a_step_each() -> None:
    total = added_up([masked(seed, Masks()) for seed in range(4)])
    expected = sum(np.clip(vector(seed), -1, 1) for seed in range(4))
    assert np.abs(total.values(4) - expected).max() < 4 * PARAMETERS.step * 1.001


def test_a_mask_that_is_left_out_spoils_every_value() -> None:
    masks = Masks(added=(key(1), key(2)))
    total = added_up([masked(1, masks)])
    for start, stop in pieces(PARAMETERS):
        total.take_off(start, stop, Masks(added=(key(1),)))
    assert np.count_nonzero(total.quantised() == bare(1)) <= 1


@pytest.mark.parametrize("values", [1, 7, 8, 9, 24, 45])
def test_pieces_give_what_the_whole_gives(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = MaskingParameters(values=values, max_clients=6, clip=1.0, value_bits=20)
    masks = Masks(added=(key(1),), subtracted=(key(2),))
    whole = masked(3, masks, parameters)
    monkeypatch.setattr(module, "PIECE_VALUES", 8)
    cut = masked(3, masks, parameters)
    assert b"".join(cut) == b"".join(whole)
    assert len(b"".join(whole)) == parameters.vector_bytes
    bounds = list(pieces(parameters))
    assert bounds[0][0] == 0
    assert bounds[-1][1] == values
    assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
    for bound, piece in zip(bounds, cut, strict=True):
        begin, size = piece_bytes(*bound, parameters)
        assert b"".join(whole)[begin : begin + size] == piece
    total = added_up([cut], parameters)
    for start, stop in bounds:
        total.take_off(start, stop, masks)
    assert np.array_equal(total.quantised(), bare(3, parameters))


def test_pieces_are_independent_of_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_VALUES", 8)
    packed = masked(1, of_client(0, 3))
    total, reverse = added_up([packed]), MaskedSum(PARAMETERS)
    for (start, stop), piece in reversed(list(zip(pieces(PARAMETERS), packed, strict=True))):
        reverse.add(start, stop, piece)
    assert np.array_equal(total.quantised(), reverse.quantised())


def test_the_inverse_takes_off_what_was_put_on() -> None:
    masks = Masks(added=(key(1), key(2)), subtracted=(key(3),))
    values = np.arange(45, dtype=np.uint32)
    masks.put_on(values, 5)
    assert np.count_nonzero(values == np.arange(45)) <= 1
    masks.inverse.put_on(values, 5)
    assert np.array_equal(values, np.arange(45))
    assert masks.count == masks.inverse.count == 3


def test_one_masked_vector_says_nothing_of_the_update() -> None:
    """With keys that nobody knows, the bytes of two very different updates are as even as each other."""
    parameters = MaskingParameters(values=40_000, max_clients=16, clip=1.0, value_bits=20)
    for update in (np.zeros(40_000), np.ones(40_000)):
        data = b"".join(masked_pieces(update, parameters, Masks(added=(key(9),)), NOISE))
        counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
        expected = len(data) / 256
        # 255 degrees of freedom: above 377 with probability 2^-20.
        assert float(((counts - expected) ** 2 / expected).sum()) < 377


def test_what_is_no_number_is_refused() -> None:
    values = vector(1)
    values[3] = np.nan
    with pytest.raises(UsageError, match="coordinate 3"):
        list(masked_pieces(values, PARAMETERS, Masks(), NOISE))


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\x00", lambda _: b""])
def test_a_piece_of_another_length_is_refused(change: object) -> None:
    (packed,) = masked(1, Masks())
    total = MaskedSum(PARAMETERS)
    with pytest.raises(MessageError):
        total.add(0, 45, change(packed))  # type: ignore[operator]
    assert not total.quantised().any()


def test_keys_are_not_shown() -> None:
    masks = Masks(added=(b"secretkeysecretkeysecretkey12345",))
    assert "secretkey" not in repr(masks)
