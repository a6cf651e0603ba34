"""A copied data directory: two processes that believe in one lease, one of which is behind the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.rounds.live import LiveRound
from secagg.errors import ElsewhereError
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import CancelRequested
from tests.batched_material import House, new_house, request
from tests.masking_material import ALICE, BOB, ROUND, SPEC, finished

LATE = CancelRequested(reason="late")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with new_house(tmp_path) as made:
        yield made


async def twins(house: House) -> tuple[LiveRound, LiveRound]:
    """Return one that has alice's join, and one that stands where the round was opened."""
    ahead, behind = house.live(), house.live()
    await ahead.begin()
    behind.state = behind._first.state
    await ahead.apply(finished().join(ALICE), request("client/alice"))
    return ahead, behind


def runs_on(house: House) -> bool:
    """Whether the round is where the one that is ahead left it."""
    record = house.sql.round(SPEC.job, ROUND)
    return record.status.phase is Phase.OPEN and [one.client for one in record.contributions] == [ALICE]


@pytest.mark.parametrize("stored_together", [False, True])
async def test_a_twin_that_is_behind_ends_no_round(house: House, *, stored_together: bool) -> None:
    """It has a join of its own, and the end: whether or not they come in one step, their sequence is not the next."""
    ahead, behind = await twins(house)
    join = asyncio.create_task(behind.apply(finished().join(BOB), request("client/bob")))
    if not stored_together:
        await asyncio.wait({join})
    results = await asyncio.gather(join, behind.apply(LATE), return_exceptions=True)
    assert [type(one) for one in results] == [ElsewhereError] * 2
    assert runs_on(house)
    await ahead.suspend()


async def test_a_twin_that_is_behind_does_not_end_a_round_by_the_end_alone(house: House) -> None:
    """Of the end nothing is kept as an event, and its sequence counts all the same."""
    ahead, behind = await twins(house)
    with pytest.raises(ElsewhereError):
        await behind.apply(LATE)
    assert runs_on(house)
    await ahead.suspend()
