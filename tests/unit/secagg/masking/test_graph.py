"""The graph: who stands next to whom, and that no place on the ring is likelier than another."""

import numpy as np
import pytest

from secagg.errors import UsageError
from secagg.ids import Digest
from secagg.masking.graph import neighbours, ring_order

ROSTER = Digest(b"r" * 32)


def test_neighbours_are_the_nearest_on_the_ring() -> None:
    order = ring_order(ROSTER, 11).tolist()
    table = neighbours(ROSTER, 11, 4)
    for place, client in enumerate(order):
        nearest = {order[(place + step) % 11] for step in (-2, -1, 1, 2)}
        assert set(table[client].tolist()) == nearest


def test_the_complete_graph_joins_everyone_whatever_the_parity() -> None:
    for clients in (2, 3, 4, 5):
        table = neighbours(ROSTER, clients, clients - 1)
        assert [set(row) for row in table.tolist()] == [set(range(clients)) - {own} for own in range(clients)]


def test_every_client_stands_everywhere_equally_often() -> None:
    """600 rosters, 6 clients: each of 36 pairs of client and place is met 100 times, give or take 45."""
    counts = np.zeros((6, 6))
    for number in range(600):
        counts[ring_order(Digest(number.to_bytes(32, "little")), 6), np.arange(6)] += 1
    assert np.abs(counts - 100).max() < 45


@pytest.mark.parametrize(("clients", "degree"), [(-1, 1), (0, 0), (1, 0), (1, 1), (5, 0), (5, 5), (5, -2), (6, 3)])
def test_impossible_numbers_are_refused(clients: int, degree: int) -> None:
    with pytest.raises(UsageError, match=str(degree)):
        neighbours(ROSTER, clients, degree)


def test_an_empty_ring_is_refused() -> None:
    with pytest.raises(UsageError, match="ring"):
        ring_order(ROSTER, 0)
