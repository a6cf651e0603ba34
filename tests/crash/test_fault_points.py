"""A coordinator dies at every place where it stores, sends or acknowledges something, and its round is published all the same."""

from __future__ import annotations

import pytest

from coordinator.fault_points import COORDINATOR_POINTS
from tests.crash.chains import CHAINS, Chain, database_of, matrix
from tests.crash.crash_house import CrashHouse, Database

# Some 15 s on an idle machine; a busy one must not fail them.
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(("place", "chain"), [pytest.param(*one, id=one[1].name) for one in enumerate(CHAINS)])
async def test_a_round_outlives_its_coordinator(
    house: CrashHouse, place: int, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.new_store(database_of(place))
    await chain.scenario(house, chain.points, monkeypatch)


def test_every_point_is_visited() -> None:
    visited = {point for chain in CHAINS for point in chain.points}
    assert sorted(set(COORDINATOR_POINTS) - visited) == []
    assert sorted(visited - set(COORDINATOR_POINTS)) == []


@pytest.mark.soak
@pytest.mark.parametrize(("chain", "database"), [pytest.param(*one, id=f"{one[0].name}-{one[1]}") for one in matrix()])
async def test_every_point_alone_in_each_protocol_and_on_each_database(
    house: CrashHouse, chain: Chain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.new_store(database)
    await chain.scenario(house, chain.points, monkeypatch)
