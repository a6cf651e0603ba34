"""What a masking round is after a restart, whatever its process left: gone on with in time, or ended with its reason."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from coordinator.rounds.live import RECONNECT_SECONDS
from secagg.ids import RoundNumber
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import JoinReceived
from tests.masking_material import ALICE, CLIENTS, ROUND, SPEC
from tests.round_cluster import eventually
from tests.simulation.masking.parties import party as party_of
from tests.simulation.masking.parties import read, signed
from tests.unit.coordinator.durable_engine import UP_TO, WHOLE, Deployment, run


@pytest.fixture
def deployed(tmp_path: Path) -> Any:
    made = Deployment(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE kept_events SET content = substr(content, 1, length(content) - 9) WHERE sequence = 3",
        "UPDATE kept_events SET content = (SELECT content FROM kept_events WHERE sequence = 8) WHERE sequence = 7",
        "UPDATE kept_events SET content = x'fa070178' WHERE sequence = 3",
        "DELETE FROM kept_events WHERE sequence = 3",
    ],
)
def test_a_round_that_cannot_be_read_back_ends_with_its_reason_and_the_job_goes_on(
    deployed: Deployment, damage: str
) -> None:
    async def work() -> None:
        await deployed.start()
        await deployed.play("join", "shares", "vector")
        await deployed.engine.stop(0.0)
        with sqlite3.connect(deployed.directory / "rounds.db") as connection:
            connection.execute(damage)
        connection.close()
        await deployed.start()
        await asyncio.sleep(5.0)
        record = deployed.store.round(SPEC.job, ROUND)
        assert record.status.phase is Phase.ABORTED
        assert "could not be read back" in record.status.reason
        assert [one.event for one in deployed.store.events(SPEC.job, ROUND)][-1] == "round-aborted"
        assert deployed.blobs.store.names(f"uploads/{SPEC.job}/{ROUND}") == []
        assert deployed.store.kept_events(SPEC.job, ROUND) == []
        following = (await deployed.engine.run_of(SPEC.job)).live
        assert following is not None
        assert following.state.round == 2
        assert following.state.phase is Phase.OPEN
        await deployed.engine.stop(0.0)
        assert deployed.store.next_round(SPEC.job) == RoundNumber(3)

    run(work)


@pytest.mark.parametrize("step", ["complete", "confirm"])
def test_a_late_vector_that_a_dead_process_left_is_gone_before_a_share_is_taken(
    deployed: Deployment, step: str
) -> None:
    """Its client is declared dropped: with its mask key open, the vector would be bare."""

    async def work() -> None:
        await deployed.start()
        await deployed.play(*UP_TO[step])
        await deployed.engine.stop(0.0)
        late = f"uploads/{SPEC.job}/{ROUND}/clients/late/vector"
        deployed.blobs.append(late, 0, b"masked")
        live = await deployed.start()
        assert live is not None
        assert live.state.phase is (Phase.CONFIRMING if step == "complete" else Phase.UNMASKING)
        assert deployed.blobs.size(late) == 0
        assert len(deployed.blobs.names("uploads")) == len(CLIENTS)
        await deployed.engine.stop(0.0)

    run(work)


def test_a_mean_that_was_written_and_never_published_is_gone_with_its_round(deployed: Deployment) -> None:
    """The end of the round is never stored, until somebody stops it: nobody may read a mean that nobody signed."""

    def publishes(name: str, args: tuple[Any, ...]) -> str:
        record = args[0].record if name == "advance_round" else None
        return "before" if record is not None and record.status.phase is Phase.PUBLISHED else ""

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        deployed.store.fails = publishes
        await deployed.play(*WHOLE)
        await eventually(lambda: bool(deployed.blobs.names("means")), 60.0)
        await live.give_up("the operator wants it")
        await eventually(lambda: deployed.blobs.names("") == [], 60.0)
        assert deployed.store.round(SPEC.job, ROUND).status.phase is Phase.ABORTED
        await deployed.engine.stop(0.0)

    run(work)


def test_nobody_is_waited_for_beyond_the_longest_end_of_a_round(deployed: Deployment) -> None:
    """A coordinator that is started over and over would keep its round open for ever, and key holders forget their shares."""

    async def work() -> None:
        await deployed.start()
        await deployed.play("join", clients=CLIENTS[:3])
        await deployed.engine.stop(0.0)
        await asyncio.sleep(SPEC.longest_seconds + RECONNECT_SECONDS)
        await deployed.start()
        await asyncio.sleep(1.0)
        assert deployed.store.round(SPEC.job, ROUND).status.phase is Phase.ABORTED
        await deployed.engine.stop(0.0)

    run(work)


@pytest.mark.parametrize("down", [5.0, 200.0, 595.0, 1000.0])
def test_a_deadline_goes_on_over_a_restart_and_leaves_time_to_come_back(deployed: Deployment, down: float) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        live = await deployed.start()
        assert live is not None
        due = live._timers["deadline"].when()
        await deployed.play("join", clients=CLIENTS[:3])
        await deployed.engine.stop(0.0)
        await asyncio.sleep(down)
        live = await deployed.start()
        assert live is not None
        assert live.state.phase is Phase.OPEN
        begun = loop.time()
        assert abs(live._timers["deadline"].when() - max(due, begun + RECONNECT_SECONDS)) < 0.5
        await asyncio.sleep(live._timers["deadline"].when() - begun + 1.0)
        assert live.state.phase is Phase.ABORTED
        assert "too few clients joined in time" in live.state.reason
        await deployed.engine.stop(0.0)

    run(work)


def test_an_event_of_a_caller_that_is_gone_is_not_undone(deployed: Deployment) -> None:
    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        message = read(
            signed(deployed.message_of(ALICE, "join"), party_of(ALICE)), type(deployed.message_of(ALICE, "join"))
        )
        joining = asyncio.ensure_future(live.apply(JoinReceived(join=message)))
        await asyncio.sleep(0)
        joining.cancel()
        await asyncio.sleep(1.0)
        assert set(live.state.joins) == {ALICE}
        assert len(deployed.store.kept_events(SPEC.job, ROUND)) == 1
        await deployed.engine.stop(0.0)

    run(work)
