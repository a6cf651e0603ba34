"""An operator's calls and watches find a coordinator again; the service does what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from secagg import codec
from secagg.cli import operator_access
from secagg.config import OperatorSettings, load_settings
from secagg.errors import (
    BusyError,
    ConflictError,
    ElsewhereError,
    RemoteError,
    SecAggError,
    StorageError,
    UnreachableError,
)
from secagg.ids import RoundNumber
from secagg.messages.job import JobState, JobStatus
from secagg.messages.round import Phase
from secagg.operator import AsyncOperatorClient, OperatorClient
from secagg.rpc_refusals import refuse
from secagg.transport import bind_port, server_options
from secagg.wire.v1 import operator_service_pb2 as wire
from secagg.wire.v1.operator_service_pb2_grpc import OperatorServiceServicer, add_OperatorServiceServicer_to_server
from tests.job_material import JOB, a_job, a_status
from tests.pki_material import COORDINATOR, OPERATOR, Deployment, deployment

NOWHERE = "127.0.0.1:1"
LOST = UnreachableError("coordinator", "killed")


class ScriptedService(OperatorServiceServicer):
    """Notes every request; the script is an answer, or an exception, for each call in turn; the last one is for ever."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.script: list[Any] = []

    @property
    def _next(self) -> Any:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    async def _answer(self, request: Any, context: Any) -> Any:
        self.seen.append(request)
        answer = self._next
        if isinstance(answer, Exception):
            await refuse(context, answer, method="scripted")
        return answer

    async def CreateJob(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in proto/
        return await self._answer(request, context)

    async def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context)

    async def WatchRounds(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.append(request)
        for answer in self._next:
            if isinstance(answer, Exception):
                await refuse(context, answer, method="scripted")
            yield wire.WatchRoundsResponse(round=codec.round_status_to_wire(answer))


class House:
    """Coordinators of one name, each with a service of its own."""

    def __init__(self, made: Deployment) -> None:
        self.made = made

    @asynccontextmanager
    async def coordinator(self) -> AsyncIterator[tuple[ScriptedService, str]]:
        service, server = ScriptedService(), grpc.aio.server(options=server_options())
        add_OperatorServiceServicer_to_server(service, server)
        port = bind_port(server, "127.0.0.1:0", self.made.identity(COORDINATOR))
        await server.start()
        try:
            yield service, f"127.0.0.1:{port}"
        finally:
            await server.stop(None)

    @asynccontextmanager
    async def operator(self, *addresses: str, **changes: float) -> AsyncIterator[AsyncOperatorClient]:
        client = AsyncOperatorClient(addresses, self.made.identity(OPERATOR), coordinator=COORDINATOR, **changes)
        try:
            yield client
        finally:
            await client.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(deployment(tmp_path / "pki"))


def answered(kind: type[Any]) -> Any:
    status = JobStatus(spec=a_job(), state=JobState.RUNNING, published_rounds=0, aborted_rounds=0, created_at=1.0)
    return kind(job=codec.job_status_to_wire(status))


async def test_a_job_is_made_at_the_coordinator_that_is_there_with_one_request_id(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secagg.coordinators.LONGEST_PAUSE_SECONDS", 0.3)
    async with house.coordinator() as (first, first_address), house.coordinator() as (second, second_address):
        first.script = [ElsewhereError(JOB, second_address)]
        second.script = [LOST, BusyError("full"), StorageError("full"), answered(wire.CreateJobResponse)]
        async with house.operator(NOWHERE, first_address, second_address) as operator:
            assert (await operator.create_job(a_job())).spec == a_job()
    made = [*first.seen, *second.seen]
    assert (len(first.seen), len(second.seen)) == (2, 4)
    assert len({one.request_id for one in made}) == 1


async def test_a_refusal_is_not_asked_again(house: House) -> None:
    async with house.coordinator() as (service, address), house.operator(address, NOWHERE) as operator:
        for error in (ConflictError("another job"), RemoteError("it", "incident 7")):
            service.script = [error]
            service.seen.clear()
            with pytest.raises(type(error)):
                await operator.get_job(JOB)
            assert len(service.seen) == 1


async def test_nobody_anywhere_is_unreachable_in_time(house: House) -> None:
    async with house.operator(NOWHERE, "127.0.0.1:2", silence_seconds=0.5) as operator:
        with pytest.raises(UnreachableError, match="coordinator/main"):
            await operator.get_job(JOB)
        with pytest.raises(UnreachableError, match="coordinator/main"):
            [one async for one in operator.watch_rounds(JOB, RoundNumber(1))]


@pytest.mark.parametrize("error", [BusyError("full"), StorageError("the disk is full")])
async def test_a_call_ends_with_its_time(house: House, error: SecAggError) -> None:
    async with house.coordinator() as (service, address), house.operator(address, timeout_seconds=1.0) as operator:
        service.script = [error]
        with pytest.raises(type(error)):
            await operator.get_job(JOB)
        assert len(service.seen) > 1
        service.script = [[error]]
        with pytest.raises(type(error)):
            [one async for one in operator.watch_rounds(JOB, RoundNumber(1))]


async def test_a_watch_goes_on_at_another_coordinator_and_tells_nothing_twice(house: House) -> None:
    opened, uploading, published = (a_status(one) for one in (Phase.OPEN, Phase.UPLOADING, Phase.PUBLISHED))
    async with house.coordinator() as (first, first_address), house.coordinator() as (second, second_address):
        first.script = [[opened, uploading, LOST], [uploading, LOST]]
        second.script = [[ElsewhereError(JOB)], [uploading, published]]
        async with house.operator(first_address, second_address) as operator:
            watched = [one async for one in operator.watch_rounds(JOB, RoundNumber(1))]
    assert watched == [opened, uploading, published]


def test_without_an_event_loop_it_is_the_same(house: House) -> None:
    identity, nowhere = house.made.identity(OPERATOR), [NOWHERE, "127.0.0.1:2"]
    with (
        OperatorClient(nowhere, identity, coordinator=COORDINATOR, silence_seconds=0.5) as operator,
        pytest.raises(UnreachableError),
    ):
        operator.get_job(JOB)


def test_a_command_is_told_of_several_coordinators_one_by_one() -> None:
    given = operator_access._given(["127.0.0.1:1", "b.example:2"], Path("me"))
    settings = load_settings(OperatorSettings, None, operator_access.ENV_PREFIX, environment=given)
    assert settings.coordinator.addresses == ("127.0.0.1:1", "b.example:2")
