"""What `secagg plan` says of bytes and errors, against real rounds over gRPC and TLS through a relay that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from he.parameters import PACKINGS
from secagg.client import AsyncClient, RoundResult
from secagg.identity import Role
from secagg.ids import JobId
from secagg.plan import CkksJob, JobSpec
from secagg.planning.forecast import Ckks, Forecast, forecast_ckks, forecast_masking
from secagg.planning.question import Question
from tests.cutting_proxy import CuttingProxy, cutting_proxy
from tests.live_deployment import LiveDeployment, visited
from tests.live_jobs import HOLDERS, largest_error, live_deadlines, updates_of

BYTES_TOLERANCE = 0.02
LONG, SHORT = 150_000, 40
LOOSEST = 100.0
"""A bound that is so many times what was measured says nothing."""

_numbers = count(1)


class EveryPacking(LiveDeployment):
    """Its clients and key holders also take part in rounds that have slots, which nobody does who does not say so."""

    def holder_config(self, name: str, **changes: str) -> Path:
        return super().holder_config(name, **{"policy.packings": f"{[*PACKINGS]}", **changes})

    def client_config(self, name: str, *, role: Role = Role.CLIENT, **changes: str) -> Path:
        return super().client_config(name, role=role, **{"policy.packings": f"{[*PACKINGS]}", **changes})


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = EveryPacking(tmp_path_factory.mktemp("planned"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def asked(clients: int, values: int) -> Question:
    """Everybody is needed, so that the sum is the one that the error is planned for."""
    return Question(clients=clients, values=values, dropout=0.0, min_contributors=clients, name_bytes=9)


def as_job(spec: JobSpec) -> JobSpec:
    """Return a planned job under a name of its own, with the deployment's key holders."""
    job = JobId(f"planned{next(_numbers):02}")
    protocol = replace(spec.protocol, holders=HOLDERS) if isinstance(spec.protocol, CkksJob) else spec.protocol
    return replace(spec, job=job, protocol=protocol, deadlines=live_deadlines())


@dataclass(kw_only=True)
class Ran:
    """A round that was run: what each client got, and what passed through its relay."""

    spec: JobSpec
    results: list[RoundResult]
    relays: list[CuttingProxy]

    @property
    def error(self) -> float:
        """The largest error of any value, of weights that are all alike."""
        updates = updates_of(self.spec, [f"client-{place:02}" for place in range(len(self.results))])
        return largest_error(self.results[0].mean, updates.values(), [1.0] * len(updates)) / self.spec.clip


async def run(live: LiveDeployment, planned: JobSpec) -> Ran:
    """Run the planned round; every client calls through a relay of its own."""
    spec = await live.create(as_job(planned))
    names = [f"client-{place:02}" for place in range(spec.max_clients)]
    updates, port = updates_of(spec, names), int(live.address.rsplit(":", 1)[1])
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(cutting_proxy(port)) for _ in names]
        clients = [
            await stack.enter_async_context(client_through(live, name, relay))
            for name, relay in zip(names, relays, strict=True)
        ]
        async with asyncio.timeout(60):
            results = await asyncio.gather(
                *(one.participate(spec.job, updates[name], 1.0) for one, name in zip(clients, names, strict=True))
            )
    return Ran(spec=spec, results=results, relays=relays)


def client_through(live: LiveDeployment, name: str, relay: CuttingProxy) -> AsyncClient:
    return AsyncClient.from_config(live.client_config(name, **{"coordinator.address": f'"{relay.address}"'}))


def assert_bytes(forecast: Forecast, ran: Ran, *, within: float = BYTES_TOLERANCE) -> None:
    """Hold what every client sent and received against the prediction."""
    for relay in ran.relays:
        assert relay.upward == pytest.approx(forecast.client.total_up, rel=within), forecast.client.up
        assert relay.downward == pytest.approx(forecast.client.total_down, rel=within), forecast.client.down


def assert_error(forecast: Forecast, ran: Ran) -> None:
    assert forecast.error_bound / LOOSEST < ran.error < forecast.error_bound


@pytest.mark.parametrize("packing", PACKINGS)
async def test_a_ckks_round_takes_the_bytes_and_errs_within_the_bound_that_were_planned(
    standing: LiveDeployment, packing: str
) -> None:
    forecast = forecast_ckks(asked(3, LONG), Ckks(packing=packing))
    async with visited(standing) as live:
        ran = await run(live, forecast.spec)
    assert_bytes(forecast, ran)
    assert_error(forecast, ran)


async def test_a_masking_round_takes_the_bytes_and_errs_within_the_bound_that_were_planned(
    standing: LiveDeployment,
) -> None:
    forecast = forecast_masking(asked(5, 2 * LONG))
    async with visited(standing) as live:
        ran = await run(live, forecast.spec)
    assert_bytes(forecast, ran)
    assert_error(forecast, ran)


async def test_what_a_round_takes_beside_the_update_is_planned_too(standing: LiveDeployment) -> None:
    """Signatures, rosters, shares, keys, handshakes and headers: hidden behind a long update, all there is of a short one."""
    question = asked(7, SHORT)
    masking, ckks = forecast_masking(question), forecast_ckks(question, Ckks())
    async with visited(standing) as live:
        masked, encrypted = await run(live, masking.spec), await run(live, ckks.spec)
    assert_bytes(masking, masked)
    assert_bytes(ckks, encrypted)
