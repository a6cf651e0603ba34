"""A masking round over a real database that fails, is taken away or damaged: nothing is lost, doubled or answered otherwise."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg.errors import ConflictError, ElsewhereError, LateError, StorageError
from secagg.messages.round import Phase
from tests.masking_material import ALICE, BOB, CLIENTS, ROUND, SPEC, finished
from tests.round_cluster import eventually
from tests.unit.coordinator.durable_engine import REVEALING, UP_TO, WHOLE, Deployment, run
from tests.unit.coordinator.test_masking_chores import exact_mean


@pytest.fixture
def deployed(tmp_path: Path) -> Any:
    made = Deployment(tmp_path)
    yield made
    made.close()


def published_exactly(deployed: Deployment) -> None:
    """See that the sum is everybody's, once, and that nothing else is left."""
    record = deployed.store.store.round(SPEC.job, ROUND)
    assert record.status.phase is Phase.PUBLISHED, record.status.reason
    assert record.status.contributors == CLIENTS
    assert record.mean_blob is not None
    blobs = deployed.blobs.store
    assert blobs.names("") == [record.mean_blob]
    mean = np.frombuffer(blobs.read(record.mean_blob, 0, 1 << 20), dtype="<f4")
    assert np.array_equal(mean, exact_mean(finished(), CLIENTS))
    trail = Counter(one.event for one in deployed.store.store.events(SPEC.job, ROUND))
    once = ("round-opened", "roster-frozen", "uploads-closed", "survivors-confirmed", "round-published")
    assert [trail[one] for one in once] == [1] * len(once), trail


@pytest.mark.parametrize("seed", range(8))
def test_a_database_that_fails_now_and_then_loses_and_doubles_nothing(deployed: Deployment, seed: int) -> None:
    """Each call fails before it is carried out, or after it, when nobody knows whether it was."""
    draws = random.Random(seed)
    likely = draws.choice([0.05, 0.2])

    async def work() -> None:
        await deployed.start()
        writes = ("advance_round", "kept_events", "round", "keep_answer", "answer_to", "unclosed_rounds", "close_round")
        deployed.store.fails = lambda name, _args: (
            draws.choice(["before", "after"]) if name in writes and draws.random() < likely else ""
        )
        await deployed.play(*WHOLE)
        await deployed.until(Phase.PUBLISHED, Phase.ABORTED)
        deployed.store.fails = lambda _name, _args: ""
        await eventually(lambda: _closed(deployed), 200.0)
        assert deployed.store.failed
        await deployed.engine.stop(0.0)

    run(work, seed)
    published_exactly(deployed)


def _closed(deployed: Deployment) -> bool:
    return all(one.status.round != ROUND for one in deployed.store.unclosed_rounds(SPEC.job))


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_event_that_may_be_stored_or_not_counts_once(deployed: Deployment, when: str) -> None:
    """The caller is told that it failed; the next call finds out what is true."""

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        deployed.store.fails = lambda name, _args: when if name == "advance_round" else ""
        before = live.state
        with pytest.raises(StorageError):
            await deployed.call(ALICE, "join")
        assert live.state is before
        deployed.store.fails = lambda _name, _args: ""
        await deployed.insist(ALICE, "join")
        await deployed.insist(BOB, "join")
        now = (await deployed.engine.run_of(SPEC.job)).live
        assert now is not None
        assert (now is live) == (when == "before")
        assert set(now.state.joins) == {ALICE, BOB}
        assert [one.sequence for one in deployed.store.kept_events(SPEC.job, ROUND)] == [1, 2]
        await deployed.engine.stop(0.0)

    run(work)


def test_a_round_does_not_end_for_want_of_a_client_that_was_answered(deployed: Deployment) -> None:
    """Its join is stored and its repetition answered from the store, of which the round in memory knows nothing yet."""

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        enough = CLIENTS[: SPEC.min_contributors + 1]
        await deployed.play("join", clients=enough[:-1])
        deployed.store.fails = lambda name, _args: "after" if name == "advance_round" else ""
        with pytest.raises(StorageError):
            await deployed.call(enough[-1], "join")
        deployed.store.fails = lambda _name, _args: ""
        await deployed.call(enough[-1], "join")
        assert len(live.state.joins) == len(enough) - 1
        await live.give_up("the operator wants it")
        await asyncio.sleep(1.0)
        going_on = (await deployed.engine.run_of(SPEC.job)).live
        assert going_on is not None
        assert set(going_on.state.joins) == set(enough)
        assert going_on.state.phase is Phase.OPEN
        await going_on.give_up("the operator wants it")
        record = deployed.store.round(SPEC.job, ROUND)
        assert {one.client for one in record.contributions} == set(enough)
        await deployed.engine.stop(0.0)

    run(work)


@pytest.mark.parametrize("what", ["mean", "streams"])
def test_a_full_disk_holds_a_round_up_until_there_is_space(deployed: Deployment, what: str) -> None:
    async def work() -> None:
        await deployed.start()
        loop, full = asyncio.get_running_loop(), {"until": 1e9}
        writes = {"mean": ("write",), "streams": ("append", "sync")}[what]
        deployed.blobs.fails = lambda name, _args: "before" if name in writes and loop.time() < full["until"] else ""

        def space() -> None:
            full["until"] = 0.0

        loop.call_later(8.0, space)
        await deployed.play(*WHOLE)
        assert await deployed.until(Phase.PUBLISHED, Phase.ABORTED) is Phase.PUBLISHED
        assert loop.time() > 8.0
        assert deployed.blobs.failed
        await asyncio.sleep(1.0)
        await deployed.engine.stop(0.0)

    run(work)
    published_exactly(deployed)


@pytest.mark.parametrize("phase", ["join", "complete", "confirm"])
def test_a_process_that_lost_its_lease_changes_nothing_and_another_goes_on(deployed: Deployment, phase: str) -> None:
    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        await deployed.play(*UP_TO[phase][:-1])
        await deployed.play(phase, clients=CLIENTS[:3])
        first, store = deployed.engine, deployed.store.store
        store.give_back(first._runs[SPEC.job].lease)
        other = store.take_lease(SPEC.job, "second", 1e6, address="there:1")
        kept, state = store.kept_events(SPEC.job, ROUND), live.state
        with pytest.raises(ElsewhereError):
            await deployed.call(CLIENTS[3], phase)
        await asyncio.sleep(1.0)
        assert live.suspended
        assert live.state is state
        assert live._timers == {}
        assert store.kept_events(SPEC.job, ROUND) == kept
        with pytest.raises(ElsewhereError, match="there:1"):
            await deployed.call(CLIENTS[3], phase)
        assert store.lease_of(SPEC.job) == other
        await deployed.start("second")
        await deployed.play(*WHOLE[WHOLE.index(phase) :])
        await deployed.until(Phase.PUBLISHED, Phase.ABORTED)
        await asyncio.sleep(1.0)
        await asyncio.gather(first.stop(0.0), deployed.engine.stop(0.0))

    run(work)
    published_exactly(deployed)


@pytest.mark.parametrize("step", ["join", "shares", "complete", "confirm", "unmask"])
def test_the_same_call_gets_its_first_answer_whatever_happened_since(deployed: Deployment, step: str) -> None:
    """Repeated at once, after a restart, and after the end of the round; with another content it is refused each time."""
    client = REVEALING[0]

    async def asked() -> None:
        state = (await deployed.engine.run_of(SPEC.job)).live
        before = None if state is None else state.state
        with pytest.raises(ConflictError, match="request id"):
            await deployed.call(client, step, message=other_content(step))
        assert await deployed.call(client, step) == first[0]
        now = (await deployed.engine.run_of(SPEC.job)).live
        assert (None if now is None else now.state) is before

    first: list[Any] = []

    async def work() -> None:
        await deployed.start()
        await deployed.play(*UP_TO[step][:-1])
        first.append(await deployed.call(client, step))
        await asked()
        await deployed.restart()
        await asked()
        await deployed.play(*WHOLE[WHOLE.index(step) :])
        await deployed.until(Phase.PUBLISHED)
        await asked()
        await deployed.restart()
        await asked()
        # Under another id it is the same message still, and nothing of it is undone.
        with pytest.raises(LateError):
            await deployed.call(client, step, request_id="another")
        await deployed.engine.stop(0.0)

    def other_content(step: str) -> Any:
        mine = deployed.message_of(client, step)
        return replace(mine, plan_digest=bytes(32))

    run(work)
