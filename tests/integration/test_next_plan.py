"""A training job asks what the next round adds up, before it has an update (docs/protocol.md, 5.1)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from secagg.client import AsyncClient, Client
from secagg.errors import PolicyError, UnknownRoundError
from secagg.identity import Role
from secagg.plan import JobSpec
from secagg.policy import ClientPolicy
from tests.round_cluster import HOLDERS, Cluster, job_spec

POLICY = ClientPolicy(holders=frozenset(HOLDERS), min_contributors=2)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(directory=tmp_path)
    await made.start()
    yield made
    await made.stop()


def _arguments(cluster: Cluster, policy: ClientPolicy = POLICY) -> dict[str, Any]:
    assert cluster.coordinator is not None
    return {
        "address": f"127.0.0.1:{cluster.coordinator.port}",
        "coordinator": "coordinator",
        "identity": cluster.identity(Role.CLIENT, "alice"),
        "policy": policy,
    }


async def _made(cluster: Cluster) -> JobSpec:
    spec = job_spec()
    await cluster.create(spec)
    return spec


async def test_the_next_plan_is_told_and_nobody_has_joined(cluster: Cluster) -> None:
    spec = await _made(cluster)
    async with AsyncClient(**_arguments(cluster)) as client:
        plan = await client.next_plan("digits")
    assert plan.spec == spec
    assert cluster.coordinator is not None
    assert (await cluster.coordinator._engine.status(spec.job, plan.round)).joined == 0


async def test_a_plan_that_the_policy_refuses_is_not_told(cluster: Cluster) -> None:
    await _made(cluster)
    policy = ClientPolicy(holders=frozenset(HOLDERS), min_contributors=3)
    async with AsyncClient(**_arguments(cluster, policy)) as client:
        with pytest.raises(PolicyError, match="contributors"):
            await client.next_plan("digits")


async def test_a_round_that_does_not_come_is_not_waited_for_without_end(cluster: Cluster) -> None:
    await _made(cluster)
    async with AsyncClient(**_arguments(cluster)) as client:
        with pytest.raises(UnknownRoundError, match=r"within 0\.3 s"):
            await client.next_plan("digits", after_round=99, join_timeout_seconds=0.3)


async def test_code_without_an_event_loop_asks_the_same(cluster: Cluster) -> None:
    spec = await _made(cluster)

    def ask() -> JobSpec:
        with Client(**_arguments(cluster)) as client:
            return client.next_plan("digits").spec

    assert await asyncio.to_thread(ask) == spec
