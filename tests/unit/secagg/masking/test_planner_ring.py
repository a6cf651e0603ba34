"""The theorem behind the planner (docstring of `secagg.masking.planner`, point 3), checked on every corrupt set of small rings."""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from secagg.ids import Digest
from secagg.masking.graph import neighbours, ring_order

Masks = npt.NDArray[np.uint32]


def graph_masks(clients: int, degree: int) -> tuple[Masks, list[int]]:
    """Every client's neighbours, and every window of degree/2 places of the ring, as bit masks."""
    digest = Digest(bytes([clients, degree]) * 16)
    rows = neighbours(digest, clients, degree)
    order = [int(one) for one in ring_order(digest, clients)]
    windows = [sum(1 << order[(at + i) % clients] for i in range(degree // 2)) for at in range(clients)]
    return np.array([sum(1 << int(one) for one in row) for row in rows], dtype=np.uint32), windows


def parts_that_open_alone(adjacent: Masks, corrupt: int, threshold: int) -> int:
    """Count the sets S of honest survivors that open while an honest survivor without an edge to S may stay outside.

    A client of S gets shares from its neighbours in S and from corrupt ones. Whether the others open does not matter.
    """
    clients = len(adjacent)
    parts = np.arange(1, 1 << clients, dtype=np.uint32)
    parts = parts[parts & np.uint32(corrupt) == 0]
    opens, reached = np.ones(len(parts), dtype=np.bool_), parts.copy()
    for client, around in enumerate(adjacent):
        inside = (parts >> np.uint32(client)) & 1 == 1
        opens &= ~inside | (np.bitwise_count(around & (parts | np.uint32(corrupt))) >= threshold)
        reached[inside] |= around
    return int((opens & (reached | np.uint32(corrupt) != (1 << clients) - 1)).sum())


@pytest.mark.parametrize(
    ("clients", "degree", "threshold"),
    [
        (9, 4, 3),
        (9, 4, 4),
        (10, 6, 4),
        (10, 6, 5),
        (11, 6, 5),
        (11, 8, 5),
        (11, 8, 6),
        (12, 4, 3),
        (12, 6, 5),
        (12, 8, 7),
        (14, 6, 4),
        (14, 8, 6),
    ],
)
def test_no_part_of_the_survivors_opens_by_itself_where_the_windows_hold_few_corrupt(
    clients: int, degree: int, threshold: int
) -> None:
    """Every corrupt set and every survivor set of a small ring, drawn by the graph that the protocol uses."""
    adjacent, windows = graph_masks(clients, degree)
    pairs = [one | other for one, other in combinations(windows, 2) if not one & other]
    safe = split = 0
    for corrupt in range(1 << clients):
        if max((corrupt & pair).bit_count() for pair in pairs) < 2 * threshold - degree:
            assert parts_that_open_alone(adjacent, corrupt, threshold) == 0
            safe += 1
        elif not split:
            split = parts_that_open_alone(adjacent, corrupt, threshold)
    assert safe
    assert split, "beyond the bound there is an attack, so the theorem above said something"
