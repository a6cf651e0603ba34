"""One round run twice at a time: by a copied data directory, or by one process that is called while it starts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from coordinator.contracts import EngineResources, Limits
from coordinator.rounds.engine import RoundEngine
from coordinator.rounds.live import LiveRound
from secagg.plan import CeremonyPlan
from tests.masking_material import CLIENTS, ROUND, SPEC
from tests.pki_material import COORDINATOR
from tests.simulation.holder_calls import HolderCalls
from tests.simulation.round_material import EPOCH_SECONDS, identity
from tests.simulation.virtual_time import simulate
from tests.unit.coordinator.durable_engine import Deployment, run
from tests.unit.coordinator.test_durable_uploads import Served


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    made.close()


def test_a_job_that_is_asked_for_again_at_a_start_is_run_once(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it got no answer when the coordinator was killed, and repeats the call as soon as the port is open."""
    resume, lives = LiveRound.resume, list[LiveRound]()

    async def noted(live: LiveRound, standing: Any) -> None:
        lives.append(live)
        await resume(live, standing)

    monkeypatch.setattr(LiveRound, "resume", noted)

    async def work() -> None:
        await deployed.start()
        await deployed.play("join", clients=CLIENTS[:3])
        await deployed.engine.stop(0.0)
        engine = deployed.engine = deployed.new_engine()
        await asyncio.gather(engine.start(), engine.job_created(SPEC.job))
        await asyncio.sleep(1.0)
        assert [one.state.round for one in lives] == [ROUND]
        await engine.stop(0.0)

    run(work)


@pytest.mark.parametrize("seed", range(6))
def test_a_copied_data_directory_has_key_holders_begin_no_ceremony_after_another(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of one name on one database: what a round has holders do is bounded, for each attempt stays in their stores."""
    served = Served(tmp_path)
    begin, begun = HolderCalls.begin_ceremony, Counter[int]()

    async def noted(calls: HolderCalls, plan: CeremonyPlan, *, timeout_seconds: float) -> Any:
        begun[plan.round] = max(begun[plan.round], plan.attempt)
        return await begin(calls, plan, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(HolderCalls, "begin_ceremony", noted)

    async def work() -> None:
        await served.start()
        resources = EngineResources(
            store=served.store,
            blobs=cast("Any", served.blobs),
            identity=identity(COORDINATOR),
            holders={},
            limits=Limits(),
            clock=lambda: EPOCH_SECONDS + asyncio.get_running_loop().time(),
            metrics=CollectorRegistry(),
        )
        twin = RoundEngine(resources, holders=served.calls)
        await twin.start()
        await asyncio.sleep(20.0)
        await asyncio.gather(twin.stop(0.0), served.engine.stop(0.0))

    defects: list[str] = []
    simulate(seed, work, defects)
    served.store.close()
    assert not defects
    assert begun[1] < 20
    assert len(begun) < 10
