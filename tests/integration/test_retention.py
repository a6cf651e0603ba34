"""Real masking rounds over real TLS, and what is left of them once the retention rule has had its day."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from coordinator.config import load_coordinator_settings
from coordinator.contracts import RoundRecord, mean_prefix
from coordinator.retention import DAY_SECONDS
from coordinator.server import CoordinatorServer
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg import faults
from secagg.errors import NotFoundError
from secagg.ids import JobId, RoundNumber
from secagg.messages.job import JobState
from secagg.messages.round import Phase
from secagg.party import Role
from secagg.plan import JobSpec
from secagg.transport import error_from_rpc
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceStub
from tests.job_material import JOB, a_job
from tests.live_deployment import LiveDeployment
from tests.live_jobs import live_masking_job
from tests.pki_material import Deployment
from tests.retention_material import in_files, keep, signed_record, traces_of

if TYPE_CHECKING:
    from secagg.wire.v1.client_service_pb2_grpc import ClientServiceAsyncStub

NAMES = ("bilby-bess", "dunnart-dot", "numbat-ned", "quokka-kit", "wombat-wil")
FIRST = RoundNumber(1)
COMMAND_SECONDS = 60.0


@dataclass
class Coordinator:
    """One in this process, with a clock that can be put forward, and commands beside it."""

    live: LiveDeployment
    config: Path
    server: CoordinatorServer = field(init=False)
    days: float = 0.0

    @property
    def data(self) -> Path:
        return self.live.directory / "coordinator"

    async def start(self) -> None:
        self.server = CoordinatorServer(load_coordinator_settings(self.config), clock=self.clock)
        await self.server.start()

    def clock(self) -> float:
        return time.time() + self.days * DAY_SECONDS

    async def round(self, job: JobId) -> RoundRecord:
        return await asyncio.to_thread(self._round, job)

    def _round(self, job: JobId) -> RoundRecord:
        store = SqlRoundStore(f"sqlite:///{self.data / 'coordinator.db'}")
        try:
            return store.round(job, FIRST)
        finally:
            store.close()

    async def retention(self, *words: str, point: str = "") -> "Ended":
        environment = {**os.environ, "COLUMNS": "200", faults.FLAG: point}
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "secagg.cli.main", "retention", *words, "--config", str(self.config)),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(started.communicate(), COMMAND_SECONDS)
        assert started.returncode is not None
        return Ended(code=started.returncode, out=out.decode(), err=err.decode())


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    live = LiveDeployment(tmp_path, holders=())
    config = live.coordinator_config(**{"retention.record_days": "3", "retention.request_days": "1"})
    made = Coordinator(live=live, config=config)
    await made.start()
    try:
        yield made
    finally:
        await live.hang_up()
        await made.server.stop(0.0)
        live.close()


async def published(coordinator: Coordinator, **changes: object) -> tuple[JobSpec, RoundRecord]:
    """Let five clients of the SDK publish a round; return what is stored of it once it is cleaned up after."""
    spec = await coordinator.live.create(live_masking_job(rounds=1, **changes))
    await coordinator.live.published(spec, NAMES)
    operator = coordinator.live.operator()
    async with asyncio.timeout(COMMAND_SECONDS):
        while (await operator.get_job(spec.job)).state is not JobState.COMPLETE:  # noqa: ASYNC110 - it is another's to end
            await asyncio.sleep(0.05)
    return spec, await coordinator.round(spec.job)


async def asked_for_result(coordinator: Coordinator, spec: JobSpec) -> pb.WaitForResultResponse:
    channel = coordinator.live.channel(coordinator.live.identity(Role.CLIENT, NAMES[0]))
    stub: ClientServiceAsyncStub = ClientServiceStub(channel)
    try:
        return await stub.WaitForResult(pb.WaitForResultRequest(job=spec.job, round=1), timeout=20)
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error


async def test_when_the_rule_is_over_nothing_of_any_client_is_left_and_the_round_says_so(
    coordinator: Coordinator,
) -> None:
    spec, record = await published(coordinator)
    traces = [*traces_of(record), *(name.encode() for name in NAMES)]
    assert len(traces) > 4 * len(NAMES)
    assert in_files(traces, coordinator.data) == traces
    coordinator.days = 2.9
    await coordinator.server._retention._purge()
    assert await coordinator.round(spec.job) == record
    coordinator.days = 3.1
    await coordinator.server._retention._purge()
    # While the coordinator runs, its write-ahead log and all.
    assert in_files(traces, coordinator.data) == []
    assert coordinator.server._engine._runs[spec.job].live is None

    operator = coordinator.live.operator()
    status = await operator.get_round(spec.job, FIRST)
    assert status.purged
    assert (status.phase, status.contributors, status.plan) == (Phase.PUBLISHED, (), None)
    assert [one async for one in operator.watch_rounds(spec.job, FIRST)] == [status]
    assert (await operator.get_job(spec.job)).published_rounds == 1
    with pytest.raises(NotFoundError, match=r"round 1 of job .* was purged.*secagg retention show"):
        await asked_for_result(coordinator, spec)


async def test_a_purge_beside_a_running_coordinator_that_is_killed_is_finished_by_the_next_one(
    coordinator: Coordinator,
) -> None:
    spec, record = await published(coordinator)
    blobs = DirectoryBlobStore(coordinator.data / "blobs")
    run = ("run", "--older-than", "0", "--force")
    killed = await coordinator.retention(*run, point="purge.blobs-deleted")
    assert killed.code == -signal.SIGKILL, killed.err
    assert blobs.names(mean_prefix(spec.job, FIRST)) == []
    # The record is whole, so that the round is due as before.
    assert await coordinator.round(spec.job) == record
    killed = await coordinator.retention(*run, point="purge.receipt-kept")
    assert killed.code == -signal.SIGKILL, killed.err
    assert (await coordinator.round(spec.job)).status.purged
    [receipt] = json.loads((await coordinator.retention("show", "--json")).out)
    assert receipt["holds"] is True
    assert record.status.plan is not None
    assert receipt["plan_digest"] == record.status.plan.digest.hex()


async def test_a_coordinator_that_starts_purges_what_became_due_while_it_was_down(tmp_path: Path) -> None:
    live = LiveDeployment(tmp_path, holders=())
    coordinator = Coordinator(live=live, config=live.coordinator_config())
    coordinator.data.mkdir()
    store = SqlRoundStore(f"sqlite:///{coordinator.data / 'coordinator.db'}")
    store.create_job(a_job(), 1.0)
    store.complete_job(JOB, 2.0)
    keep(store, signed_record(Deployment(directory=tmp_path / "pki", at=live.authority.at)))
    await coordinator.start()
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            while not store.receipts():  # noqa: ASYNC110 - what is waited for happens in a database
                await asyncio.sleep(0.05)
    finally:
        await coordinator.server.stop(0.0)
        live.close()
        store.close()
