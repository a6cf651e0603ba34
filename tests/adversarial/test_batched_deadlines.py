"""Timers that fire while a store is slow: they wait for their turn, behind whoever came before them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.rounds.live import LiveRound
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import DeadlinePassed, GraceOver
from tests.batched_material import House, new_house, together
from tests.masking_material import CLIENTS, SPEC, finished
from tests.round_cluster import eventually
from tests.unit.coordinator.durable_engine import UP_TO, Deployment, run

ENOUGH = CLIENTS[: SPEC.min_contributors]
SLOW_SECONDS = 2.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with new_house(tmp_path) as made:
        yield made


async def joins_and_then(house: House, live: LiveRound, clients: tuple[Any, ...], timer: Any) -> list[Any]:
    """Have clients join, and a timer fire behind the last of them while the first is being stored."""
    results = await together(
        house,
        live,
        *(live.apply(finished().join(client)) for client in clients),
        meanwhile=lambda _tasks: live.report(timer, Phase.OPEN),
    )
    # The timer's own turn.
    await eventually(lambda: not live._moves)
    return results


async def test_whoever_came_before_the_deadline_is_not_too_late(house: House) -> None:
    """The quorum is there in time, all but one of it in the queue."""
    live = house.live()
    await live.begin()
    results = await joins_and_then(house, live, ENOUGH, DeadlinePassed(phase=Phase.OPEN))
    assert set(results) == {None}
    assert (live.state.phase, set(live.state.joins)) == (Phase.SHARING, set(ENOUGH))
    await live.suspend()


@pytest.mark.parametrize("timer", [DeadlinePassed(phase=Phase.OPEN), GraceOver()], ids=lambda one: type(one).__name__)
async def test_a_timer_that_comes_after_the_end_of_its_phase_is_no_failure(house: House, timer: Any) -> None:
    """The last client ends the phase, from the same queue: the timer was meant for another one, and must not end the round."""
    live = house.live()
    await live.begin()
    results = await joins_and_then(house, live, CLIENTS, timer)
    assert set(results) == {None}
    assert live.state.phase is Phase.SHARING, live.state.reason
    assert house.kept == list(range(1, len(CLIENTS) + 1))
    await live.suspend()


@pytest.mark.parametrize("step", ["join", "shares", "complete", "confirm"])
def test_whoever_called_a_second_before_the_deadline_counts(tmp_path: Path, step: str) -> None:
    """Through the services, in every phase that waits for clients: one write takes until after the deadline."""
    deployed = Deployment(tmp_path)
    outcome: list[Any] = []

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        await deployed.play(*UP_TO[step][:-1])
        await deployed.play(step, clients=CLIENTS[:1])
        loop = asyncio.get_running_loop()
        await asyncio.sleep(live._timers["deadline"].when() - loop.time() - 1.0)
        _slow_down(live)
        calls = [asyncio.create_task(deployed.call(client, step)) for client in CLIENTS[1:]]
        outcome.extend(await asyncio.gather(*calls, return_exceptions=True))
        await deployed.engine.stop(0.0)

    run(work)
    deployed.close()
    assert len(outcome) == len(CLIENTS) - 1
    assert not [one for one in outcome if isinstance(one, BaseException)]


def _slow_down(live: LiveRound) -> None:
    """Have the next write of a round take its time."""
    advance, delays = live.ledger.advance, [SLOW_SECONDS]

    async def slowly(*args: Any) -> None:
        await advance(*args)
        await asyncio.sleep(delays.pop() if delays else 0.0)

    setattr(live.ledger, "advance", slowly)  # noqa: B010
