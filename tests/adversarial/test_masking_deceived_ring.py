"""The argument of `secagg.masking.planner` for clients that were deceived about the sharers, on configurations of small rings.

Roles of honest clients: *givers* saw the true sharers, confirmed the survivor set U, and reveal. The *deceived* mask with any
neighbours that the coordinator chose, at least t of them, and reveal nothing; silent clients that saw the truth are deceived
ones that happen to have been told it. The *dropped* are not in U, so that their mask keys open where t shares are there. The
mask keys of *ghosts* were opened in another roster (`test_masking_ghosts.py`). A part S of the honest members of U is exposed
when all its seeds open and every mask on it is known or cancels within S. Promise P2: no part is exposed but all that stand in
U and are no ghosts.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from secagg.ids import Digest
from secagg.masking.graph import neighbours, ring_order

Sets = npt.NDArray[np.uint32]

ROLES = GIVER_IN, DECEIVED_IN, GIVER_OUT, DECEIVED_OUT, DROPPED, GHOST = range(6)
"""In or out of the part S that the adversary is after. The dropped are not in U; ghosts are, and have no vector in this roster."""


def graph_of(clients: int, degree: int) -> tuple[list[int], list[int]]:
    """Return every client's neighbours, and every pair of disjoint windows of degree/2 places, as bit sets."""
    digest = Digest(bytes([clients, degree]) * 16)
    around = [sum(1 << int(one) for one in row) for row in neighbours(digest, clients, degree)]
    order = [int(one) for one in ring_order(digest, clients)]
    windows = [sum(1 << order[(at + step) % clients] for step in range(degree // 2)) for at in range(clients)]
    return around, [one | other for one, other in combinations(windows, 2) if not one & other]


def within_bound(corrupt: int, around: list[int], pairs: list[int], least: int) -> bool:
    """Whether this corrupt set is one that the planner's tail does not count."""
    return max((corrupt & some).bit_count() for some in (*around, *pairs)) < least


def assignments(honest: list[int], draws: np.random.Generator, most: int) -> Sets:
    """Return roles for the honest clients, one row each: all there are, or as many as asked for, drawn at random."""
    every = len(ROLES) ** len(honest)
    codes = np.arange(every) if every <= most else draws.integers(every, size=most)
    return ((codes[:, None] // len(ROLES) ** np.arange(len(honest))) % len(ROLES)).astype(np.uint32)


def sets_of(roles: Sets, honest: list[int], *wanted: int) -> Sets:
    bits = (np.uint32(1) << np.array(honest, dtype=np.uint32))[None, :]
    chosen: Sets = (np.isin(roles, wanted) * bits).sum(axis=1).astype(np.uint32)
    return chosen


def exposed(roles: Sets, honest: list[int], corrupt: int, around: list[int], threshold: int) -> npt.NDArray[np.bool_]:
    """Return in which rows the part S is exposed, the coordinator lying to the deceived as it suits it best.

    The deceived mask with S, corrupt and opened clients only: every neighbour more would be one more mask to know.
    """
    givers = sets_of(roles, honest, GIVER_IN, GIVER_OUT)
    part = sets_of(roles, honest, GIVER_IN, DECEIVED_IN)
    members = sets_of(roles, honest, GIVER_IN, DECEIVED_IN, GIVER_OUT, DECEIVED_OUT)
    telling = givers | np.uint32(corrupt)
    opened = sets_of(roles, honest, GHOST)
    for column, client in enumerate(honest):
        enough = np.bitwise_count(telling & np.uint32(around[client])) >= threshold
        opened |= np.where(enough & (roles[:, column] == DROPPED), np.uint32(1 << client), np.uint32(0))
    good: npt.NDArray[np.bool_] = (part != 0) & (part != members)
    for column, client in enumerate(honest):
        near, role = np.uint32(around[client]), roles[:, column]
        seed_opens = np.bitwise_count(telling & near) >= threshold
        closed = (members & near & ~part) == 0
        enough_known = np.bitwise_count((part | opened | np.uint32(corrupt)) & near) >= threshold
        good &= ~np.isin(role, (GIVER_IN, DECEIVED_IN)) | seed_opens
        good &= (role != GIVER_IN) | closed
        good &= (role != DECEIVED_IN) | enough_known
    return good


RINGS = [(8, 4, 3), (9, 4, 3), (9, 4, 4), (9, 6, 5), (10, 6, 5), (10, 8, 6), (12, 6, 5)]


@pytest.mark.parametrize(("clients", "degree", "threshold"), RINGS)
def test_no_part_is_exposed_whomever_the_coordinator_deceives(clients: int, degree: int, threshold: int) -> None:
    """Within the bound nothing is ever exposed but the whole; beyond it something is, so the search can find it."""
    draws = np.random.default_rng(clients * 100 + degree * 10 + threshold)
    around, pairs = graph_of(clients, degree)
    least = 2 * threshold - degree
    safe = split = 0
    for size in range(min(2 * least, clients - 3) + 1):
        corrupt_sets = [sum(1 << one for one in some) for some in combinations(range(clients), size)]
        for corrupt in draws.permutation(corrupt_sets)[:6].tolist():
            honest = [client for client in range(clients) if not corrupt >> client & 1]
            roles = assignments(honest, draws, 60_000)
            found = exposed(roles, honest, corrupt, around, threshold)
            if within_bound(corrupt, around, pairs, least):
                assert not found.any(), f"corrupt {corrupt:b}, roles {roles[found][0]} of {honest}"
                safe += 1
            else:
                split += int(found.any())
    assert safe
    assert split


def test_an_exposed_sum_is_what_linear_algebra_says_it_is() -> None:
    """Draw whole rounds of one ring and hold the combinations of vectors that lose every unknown mask against the promise."""
    clients, degree, threshold = 10, 6, 4
    around, pairs = graph_of(clients, degree)
    draws = np.random.default_rng(20)
    opened = 0
    for _ in range(1500):
        corrupt = 1 << int(draws.integers(clients))
        assert within_bound(corrupt, around, pairs, 2 * threshold - degree)
        honest = [client for client in range(clients) if not corrupt >> client & 1]
        standing = {client: int(draws.choice(3, p=[0.75, 0.15, 0.1])) for client in honest}
        givers = sum(1 << one for one in honest if standing[one] == 0)
        members = [one for one in honest if standing[one] != 2]
        knows = givers | corrupt
        seeds = {one for one in members if (knows & around[one]).bit_count() >= threshold}
        keys = {one for one in honest if one not in members and (knows & around[one]).bit_count() >= threshold}
        masks_on = {
            one: around[one] if standing[one] == 0 else thinned(around[one], threshold, draws) for one in members
        }
        kernel = combinations_without_masks(members, masks_on, seeds, keys, corrupt)
        assert len(kernel) <= 1
        if len(kernel):
            combination = kernel[0] / kernel[0][np.argmax(np.abs(kernel[0]))]
            assert np.allclose(combination, 1), "only the plain sum of every honest member of U opens"
            opened += 1
    assert opened > 100, "honest rounds do open"


def thinned(around: int, threshold: int, draws: np.random.Generator) -> int:
    """Leave a deceived client some neighbours, at least a threshold."""
    ones = [bit for bit in range(around.bit_length()) if around >> bit & 1]
    return sum(
        1 << int(one) for one in draws.choice(ones, size=int(draws.integers(threshold, len(ones) + 1)), replace=False)
    )


def combinations_without_masks(
    members: list[int], masks_on: dict[int, int], seeds: set[int], keys: set[int], corrupt: int
) -> npt.NDArray[np.float64]:
    """Return a basis of the combinations of members' vectors that carry no unknown mask, one row each."""
    columns: dict[tuple[int, int], int] = {}
    entries = []
    for row, one in enumerate(members):
        if one not in seeds:
            entries.append((row, columns.setdefault((one, one), len(columns)), 1))
        for other in range(masks_on[one].bit_length()):
            if masks_on[one] >> other & 1 and other not in keys and not corrupt >> other & 1:
                pair = (min(one, other), max(one, other))
                entries.append((row, columns.setdefault(pair, len(columns)), 1 if one < other else -1))
    matrix = np.zeros((len(members), max(1, len(columns))))
    for row, column, sign in entries:
        matrix[row, column] = sign
    left, values, _ = np.linalg.svd(matrix)
    rank = int((values > 1e-9).sum())
    return left[:, rank:].T
