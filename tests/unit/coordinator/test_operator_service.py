"""OperatorService over real gRPC and mutual TLS, with a real store; rounds are scripted by an engine that runs none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest

from coordinator.access_table import ACCESS
from coordinator.operator_service import OperatorServicer
from coordinator.store.rounds import SqlRoundStore
from secagg import codec
from secagg.errors import (
    ConflictError,
    MessageError,
    NotAllowedError,
    PlanError,
    RemoteError,
    UnknownJobError,
    UnreachableError,
    UsageError,
)
from secagg.ids import HolderId, JobId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.operator import AsyncOperatorClient
from secagg.plan import CkksJob, MaskingJob
from secagg.transport import RoleInterceptor, bind_port, error_from_rpc, open_channel, server_options
from secagg.wire.v1 import operator_service_pb2 as wire
from secagg.wire.v1.operator_service_pb2_grpc import OperatorServiceStub, add_OperatorServiceServicer_to_server
from tests.job_material import FIRST, HOLDERS, JOB, a_job, a_move, a_record, a_status, an_opening
from tests.pki_material import ALICE, AUDITOR, COORDINATOR, OPERATOR, Deployment, deployment


@dataclass
class ScriptedEngine:
    """Remembers what it is told, and tells what a test put into it."""

    created: list[JobId] = field(default_factory=list)
    statuses: dict[int, RoundStatus] = field(default_factory=dict)
    changes: asyncio.Queue[RoundStatus | None] = field(default_factory=asyncio.Queue)
    watched: list[tuple[JobId, int]] = field(default_factory=list)
    watched_again: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None: ...

    async def stop(self, grace_seconds: float) -> None: ...

    async def job_created(self, job: JobId) -> None:
        self.created.append(job)

    async def status(self, job: JobId, round: RoundNumber) -> RoundStatus:
        return self.statuses[round]

    async def watch(self, job: JobId, round: RoundNumber) -> AsyncIterator[RoundStatus]:
        self.watched.append((job, round))
        if len(self.watched) > 1:
            self.watched_again.set()
        while (status := await self.changes.get()) is not None:
            yield status


@dataclass
class Served:
    deployment: Deployment
    store: SqlRoundStore
    engine: ScriptedEngine
    servicer: OperatorServicer
    port: int
    clients: list[AsyncOperatorClient] = field(default_factory=list)

    def client(self, party: object = OPERATOR, timeout_seconds: float = 10.0, **options: float) -> AsyncOperatorClient:
        identity = self.deployment.identity(party)  # type: ignore[arg-type]
        options["timeout_seconds"] = timeout_seconds
        client = AsyncOperatorClient(f"127.0.0.1:{self.port}", identity, coordinator=COORDINATOR, **options)
        self.clients.append(client)
        return client


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = deployment(tmp_path / "pki")
    identity = made.identity(COORDINATOR)
    store = SqlRoundStore(f"sqlite:///{tmp_path / 'rounds.db'}")
    engine = ScriptedEngine()
    servicer = OperatorServicer(store, engine, HOLDERS, clock=lambda: 50.0)
    server = grpc.aio.server(interceptors=(RoleInterceptor(ACCESS, identity.trust),), options=server_options())
    add_OperatorServiceServicer_to_server(servicer, server)
    port = bind_port(server, "127.0.0.1:0", identity)
    await server.start()
    running = Served(made, store, engine, servicer, port)
    yield running
    for client in running.clients:
        await client.close()
    await server.stop(0)
    store.close()


async def test_a_job_is_made_once_and_shown(served: Served) -> None:
    client = served.client()
    made = await client.create_job(a_job(), request_id="r1")
    again = await client.create_job(a_job(), request_id="r1")
    assert made == again == await client.get_job(JOB)
    assert (made.spec, made.created_at) == (a_job(), 50.0)
    assert [one.event for one in served.store.events(JOB)] == ["job-created"]
    assert served.store.events(JOB)[0].details == {"by": "operator/olga"}
    assert served.engine.created == [JOB, JOB]


async def test_a_repeated_request_gets_its_first_answer_however_far_the_job_is(served: Served) -> None:
    client = served.client()
    made = await client.create_job(a_job(), request_id="r1")
    served.store.open_round(an_opening())
    served.store.advance_round(a_move(record=a_record()))
    served.store.close_round(JOB, FIRST)
    served.store.complete_job(JOB, 60.0)
    assert await client.create_job(a_job(), request_id="r1") == made
    with pytest.raises(ConflictError):
        await client.create_job(a_job(purpose="another"), request_id="r1")


async def test_a_request_id_stands_for_one_content(served: Served) -> None:
    client = served.client()
    await client.create_job(a_job(), request_id="r1")
    with pytest.raises(ConflictError):
        await client.create_job(a_job(job=JobId("other")), request_id="r1")
    with pytest.raises(ConflictError):
        await client.create_job(a_job(purpose="another"), request_id="r2")
    assert served.engine.created == [JOB]


@pytest.mark.parametrize("request_id", ["x" * 65, "a\nb", " \x7f"])
async def test_a_request_id_is_short_and_printable(served: Served, request_id: str) -> None:
    with pytest.raises(UsageError, match="request_id"):
        await served.client().create_job(a_job(), request_id=request_id)
    assert served.engine.created == []


async def test_a_request_without_an_id_is_refused(served: Served) -> None:
    channel = open_channel(f"127.0.0.1:{served.port}", served.deployment.identity(OPERATOR), target=COORDINATOR)
    request = wire.CreateJobRequest(spec=codec.job_spec_to_wire(a_job()))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await OperatorServiceStub(channel).CreateJob(request, timeout=10)
    assert isinstance(error_from_rpc(caught.value), UsageError)
    await channel.close()


async def test_a_job_that_does_not_prove_itself_is_refused_with_the_number(served: Served) -> None:
    channel = open_channel(f"127.0.0.1:{served.port}", served.deployment.identity(OPERATOR), target=COORDINATOR)
    spec = codec.job_spec_to_wire(a_job())
    spec.min_contributors = 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await OperatorServiceStub(channel).CreateJob(wire.CreateJobRequest(request_id="r", spec=spec), timeout=10)
    error = error_from_rpc(caught.value)
    assert isinstance(error, MessageError)
    assert "min_contributors 1" in str(error)
    await channel.close()


@pytest.mark.parametrize("packing", ["complex", "real"])
async def test_a_job_whose_openings_would_show_single_clients_is_not_made(served: Served, packing: str) -> None:
    job = a_job(protocol=CkksJob(holders=HOLDERS, preset="ckks-8192", packing=packing))
    with pytest.raises(PlanError, match="take packing coefficients"):
        await served.client().create_job(job)
    # Whatever the caller's software says.
    channel = open_channel(f"127.0.0.1:{served.port}", served.deployment.identity(OPERATOR), target=COORDINATOR)
    request = wire.CreateJobRequest(request_id="r", spec=codec.job_spec_to_wire(job))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await OperatorServiceStub(channel).CreateJob(request, timeout=10)
    assert "take packing coefficients" in str(error_from_rpc(caught.value))
    await channel.close()
    assert served.store.jobs("", 10) == []


async def test_key_holders_without_an_address_are_named(served: Served) -> None:
    stranger = HolderId("stranger")
    with pytest.raises(UsageError, match="stranger"):
        await served.client().create_job(a_job(protocol=CkksJob(holders=(*HOLDERS[:4], stranger))))
    assert served.store.jobs("", 10) == []


async def test_a_job_of_masking_names_no_key_holder_and_is_made(served: Served) -> None:
    spec = a_job(protocol=MaskingJob(), min_contributors=4)
    made = await served.client().create_job(spec)
    assert made.spec == spec
    assert served.engine.created == [JOB]


async def test_an_auditor_reads_and_makes_nothing(served: Served) -> None:
    await served.client().create_job(a_job())
    auditor = served.client(AUDITOR)
    assert (await auditor.get_job(JOB)).spec == a_job()
    assert [one.spec.job async for one in auditor.jobs()] == [JOB]
    with pytest.raises(NotAllowedError):
        await auditor.create_job(a_job(job=JobId("other")))


async def test_a_client_sees_nothing_here(served: Served) -> None:
    client = served.client(ALICE)
    uses: list[Callable[[], object]] = [lambda: client.get_job(JOB), lambda: client.get_round(JOB, FIRST)]
    for use in uses:
        with pytest.raises(NotAllowedError):
            await use()  # type: ignore[misc]
    with pytest.raises(NotAllowedError):
        [one async for one in client.watch_rounds(JOB, FIRST)]


async def test_lists_are_read_page_by_page(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.operator.PAGE", 2)
    for name in ("a", "b", "c", "d", "e"):
        served.store.create_job(a_job(job=JobId(name)), 1.0)
    for number in range(1, 6):
        served.store.open_round(an_opening(JobId("a"), number, phase=Phase.PUBLISHED))
    client = served.client()
    assert [one.spec.job async for one in client.jobs()] == ["a", "b", "c", "d", "e"]
    assert [one.round async for one in client.rounds(JobId("a"))] == [1, 2, 3, 4, 5]
    assert [one.round async for one in client.rounds(JobId("a"), after=3)] == [4, 5]


async def test_a_page_ends_before_a_message_is_full(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.operator_service.MAX_PAGE_BYTES", 1)
    for name in ("a", "b", "c"):
        served.store.create_job(a_job(job=JobId(name)), 1.0)
    assert [one.spec.job async for one in served.client().jobs()] == ["a", "b", "c"]


async def test_a_page_has_a_largest_size(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.operator.PAGE", 501)
    with pytest.raises(UsageError, match="at most 500"):
        [one async for one in served.client().jobs()]


async def test_a_running_round_is_shown_as_it_stands_now(served: Served) -> None:
    served.store.create_job(a_job(), 1.0)
    served.store.open_round(an_opening())
    served.engine.statuses = {FIRST: a_status(Phase.UPLOADING, uploaded=2)}
    client = served.client()
    assert [one.uploaded async for one in client.rounds(JOB)] == [2]
    assert await client.get_round(JOB, FIRST) == a_status(Phase.UPLOADING, uploaded=2)


async def test_a_round_is_watched_to_its_end(served: Served) -> None:
    served.store.create_job(a_job(), 1.0)
    expected = [a_status(Phase.OPEN), a_status(Phase.UPLOADING), a_status(Phase.PUBLISHED)]
    for status in (*expected, None):
        served.engine.changes.put_nowait(status)
    assert [one async for one in served.client().watch_rounds(JOB, RoundNumber(0))] == expected
    assert served.engine.watched == [(JOB, 0)]


async def test_closing_ends_a_watch(served: Served) -> None:
    served.store.create_job(a_job(), 1.0)
    served.engine.changes.put_nowait(a_status(Phase.OPEN))
    watching = aiter(served.client(silence_seconds=0.5).watch_rounds(JOB, RoundNumber(0)))
    assert await anext(watching) == a_status(Phase.OPEN)
    served.servicer.close()
    # With an error: the job goes on, and another coordinator, or this one once it is back, has more to tell.
    with pytest.raises(UnreachableError, match="it is being stopped"):
        await anext(watching)


async def test_a_watch_is_begun_again_after_its_deadline(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.operator.WATCH_SECONDS", 0.5)
    served.store.create_job(a_job(), 1.0)
    watching = aiter(served.client().watch_rounds(JOB, FIRST))
    following = asyncio.ensure_future(anext(watching))
    async with asyncio.timeout(20):
        await served.engine.watched_again.wait()
        served.engine.changes.put_nowait(a_status())
        assert await following == a_status()


async def test_what_is_unknown_is_named(served: Served) -> None:
    client = served.client()
    with pytest.raises(UnknownJobError):
        await client.get_job(JobId("nobody"))
    with pytest.raises(UnknownJobError):
        [one async for one in client.rounds(JobId("nobody"))]
    with pytest.raises(UnknownJobError):
        [one async for one in client.watch_rounds(JobId("nobody"), FIRST)]


async def test_an_unexpected_failure_shows_a_number_and_no_internals(served: Served) -> None:
    with pytest.raises(RemoteError) as caught:
        await served.client().get_round(JOB, RoundNumber(77))
    assert "incident" in str(caught.value)
    assert "KeyError" not in str(caught.value)


async def test_nobody_there_is_unreachable(served: Served) -> None:
    address = "127.0.0.1:1"
    identity = served.deployment.identity(OPERATOR)
    client = AsyncOperatorClient(address, identity, coordinator=COORDINATOR, silence_seconds=0.5)
    with pytest.raises(UnreachableError, match="coordinator/main"):
        await client.get_job(JOB)
    with pytest.raises(UnreachableError):
        [one async for one in client.watch_rounds(JOB, FIRST)]
    await client.close()
