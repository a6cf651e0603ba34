"""Held shares: one kind for each neighbour, whatever is asked for, and nothing to read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import MessageError
from secagg.ids import ClientId
from secagg.masking.held_shares import HeldShares
from secagg.masking.sealing import encode_pair
from secagg.masking.shamir import SHARE_BYTES, encode_share

NAMES = tuple(ClientId(name) for name in ("bob", "carol", "dave", "erin", "frank"))
sets = st.sets(st.sampled_from(NAMES))


def share(number: int) -> np.ndarray:
    return np.full(9, number, dtype=np.uint32)


def seed_share(client: ClientId) -> bytes:
    return encode_share(share(NAMES.index(client) + 1))


def key_share(client: ClientId) -> bytes:
    return encode_share(share(NAMES.index(client) + 101))


def held(clients: set[ClientId] | tuple[ClientId, ...] = NAMES) -> HeldShares:
    numbers = {client: NAMES.index(client) for client in clients}
    return HeldShares({one: encode_pair(share(place + 1), share(place + 101)) for one, place in numbers.items()})


@given(opened=sets, survivors=sets, order=st.permutations(NAMES))
def test_a_survivors_seed_share_anybody_elses_key_share_and_never_both(
    opened: set[ClientId], survivors: set[ClientId], order: list[ClientId]
) -> None:
    revealed = held(opened).reveal(order, survivors)
    assert len(revealed) == len(order)
    for client, one in zip(order, revealed, strict=True):
        if client not in opened:
            assert one == b""
        else:
            assert one == (seed_share(client) if client in survivors else key_share(client))
    everything = b"".join(revealed)
    assert not any(seed_share(one) in everything and key_share(one) in everything for one in NAMES)


def test_who_is_not_asked_for_is_not_revealed() -> None:
    assert held().reveal(NAMES[:2], NAMES) == (seed_share(NAMES[0]), seed_share(NAMES[1]))


def test_what_a_caller_says_twice_is_still_one_kind() -> None:
    revealed = held().reveal((NAMES[0], NAMES[0]), [NAMES[0]])
    assert set(revealed) == {seed_share(NAMES[0])}


@pytest.mark.parametrize("data", [b"", bytes(71), bytes(73), b"\xff" * 72, bytes(36) + b"\xff" * 36])
def test_what_is_no_pair_of_shares_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        HeldShares({NAMES[0]: data})


def test_nothing_shows_a_share() -> None:
    words = f"{held()!r} {held()}"
    assert repr(seed_share(NAMES[0]))[2:-1] not in words
    assert len(words) < 4 * SHARE_BYTES
    assert not hasattr(held(), "__dict__")
