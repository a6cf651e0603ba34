"""Certificates that are revoked, or end, while their owners are connected: the next call is refused, and calls that go on end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from secagg.client import AsyncClient
from secagg.errors import CertificateError, UnknownJobError
from secagg.identity import Party, Role
from secagg.messages.round import Phase
from secagg.transport import error_from_rpc, open_channel
from tests.followed_service import FollowedService, serving
from tests.live_deployment import LiveDeployment
from tests.live_jobs import live_job, updates_of
from tests.pki_material import COORDINATOR, NORTH, OPERATOR, Deployment, deployment

LIMIT_SECONDS = 20.0
PICKED_UP_SECONDS = 30.0
CLIENTS = ("alice", "bob", "carol")


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki")


async def _revoke(made: Deployment, served: FollowedService, party: Party = COORDINATOR) -> None:
    made.pki.revoke(party, at=datetime.now(UTC))
    await asyncio.to_thread(served.keeper.refresh)


def _refused(failed: grpc.aio.AioRpcError, reason: str = "coordinator/main was revoked") -> None:
    error = error_from_rpc(failed)
    assert isinstance(error, CertificateError), repr(error)
    assert reason in str(error)
    assert failed.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_next_call_on_an_open_connection_is_refused_and_others_go_on(made: Deployment) -> None:
    main, olga = made.identity(COORDINATOR), made.identity(OPERATOR)
    async with (
        serving(made) as served,
        open_channel(served.address, main, target=NORTH) as revoked,
        open_channel(served.address, olga, target=NORTH) as other,
    ):
        calls = [channel.unary_unary("/test.Followed/Who") for channel in (revoked, other)]
        for call in calls:
            await call(b"", timeout=LIMIT_SECONDS)
        await _revoke(made, served)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await calls[0](b"", timeout=LIMIT_SECONDS)
        _refused(failed.value)
        await calls[1](b"", timeout=LIMIT_SECONDS)


async def test_a_new_connection_is_refused_as_well(made: Deployment) -> None:
    main = made.identity(COORDINATOR)
    async with serving(made) as served:
        await _revoke(made, served)
        async with open_channel(served.address, main, target=NORTH) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/test.Followed/Who")(b"", timeout=LIMIT_SECONDS)
    _refused(failed.value)


async def test_an_upload_that_runs_is_ended_at_its_next_message(made: Deployment) -> None:
    main = made.identity(COORDINATOR)
    async with serving(made) as served, open_channel(served.address, main, target=NORTH) as channel:
        up = channel.stream_unary("/test.Followed/Up")(timeout=LIMIT_SECONDS)
        await up.write(b"before")
        await _until(lambda: served.received == [b"before"])
        await _revoke(made, served)
        await up.write(b"after")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await up
        _refused(failed.value)
        assert served.received == [b"before"]
        assert served.ended == ["CertificateError"]


async def test_a_watch_tells_a_revoked_caller_nothing_more(made: Deployment) -> None:
    main = made.identity(COORDINATOR)
    async with serving(made) as served, open_channel(served.address, main, target=NORTH) as channel:
        down = channel.unary_stream("/test.Followed/Down")(b"", timeout=LIMIT_SECONDS)
        assert await down.read() == b"first"
        await _revoke(made, served)
        served.go_on.set()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await down.read()
    _refused(failed.value)


async def test_who_waits_for_an_answer_does_not_get_it(made: Deployment) -> None:
    main = made.identity(COORDINATOR)
    async with serving(made) as served, open_channel(served.address, main, target=NORTH) as channel:
        waiting = channel.unary_unary("/test.Followed/Poll")(b"", timeout=LIMIT_SECONDS)
        await _until(lambda: served.received == [b"polled"])
        await _revoke(made, served)
        served.go_on.set()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await waiting
    _refused(failed.value)


async def test_calls_are_checked_again_once_in_the_time_that_is_set(made: Deployment) -> None:
    main = made.identity(COORDINATOR)
    async with (
        serving(made, recheck_seconds=3600.0) as served,
        open_channel(served.address, main, target=NORTH) as channel,
    ):
        down = channel.unary_stream("/test.Followed/Down")(b"", timeout=LIMIT_SECONDS)
        assert await down.read() == b"first"
        await _revoke(made, served)
        served.go_on.set()
        assert await down.read() == b"second"


@pytest.mark.parametrize("kind", ["call", "watch"])
async def test_a_certificate_that_ends_while_connected_gets_no_further(made: Deployment, kind: str) -> None:
    main = made.identity(COORDINATOR)
    async with serving(made) as served, open_channel(served.address, main, target=NORTH) as channel:
        down = channel.unary_stream("/test.Followed/Down")(b"", timeout=LIMIT_SECONDS)
        assert await down.read() == b"first"
        served.ahead = timedelta(days=364)
        await channel.unary_unary("/test.Followed/Who")(b"", timeout=LIMIT_SECONDS)
        served.ahead = timedelta(days=366)
        # The list lives as long: renewed, so that it is not what refuses.
        made.pki.renew_revocation_list(at=datetime.now(UTC), days=1000)
        await asyncio.to_thread(served.keeper.refresh)
        served.go_on.set()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await (down.read() if kind == "watch" else channel.unary_unary("/test.Followed/Who")(b""))
    _refused(failed.value, "coordinator/main expired")


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not true():  # noqa: ASYNC110 - what the test waits for happens in handlers that know of no test
            await asyncio.sleep(0.01)


# Real processes of every role.


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("revocation"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
async def live(running: LiveDeployment) -> AsyncIterator[LiveDeployment]:
    try:
        yield running
    finally:
        await running.hang_up()


async def test_a_client_that_is_revoked_between_two_rounds_is_refused_and_the_others_go_on(
    live: LiveDeployment,
) -> None:
    spec = await live.create(live_job(rounds=2, max_clients=2))
    mallory = live.client("mallory")
    update = updates_of(spec, ["mallory"])["mallory"]
    first, second = await asyncio.gather(
        mallory.participate(spec.job, update, 40.0),
        live.client("bob").participate(spec.job, updates_of(spec, ["bob"])["bob"], 30.0),
    )
    assert first.contributors == second.contributors == ("bob", "mallory")
    pids = {name: service.process.pid for name, service in live.services.items() if service.process}
    live.authority.pki.revoke(Party(role=Role.CLIENT, name="mallory"), at=datetime.now(UTC))
    await _read_by_the_coordinator(mallory)
    refused, status = await asyncio.gather(
        mallory.participate(spec.job, update, 40.0, after_round=1),
        live.published(spec, ["bob", "carol"], after=1),
        return_exceptions=True,
    )
    assert isinstance(refused, CertificateError), repr(refused)
    assert "client/mallory was revoked" in str(refused)
    assert not isinstance(status, BaseException), repr(status)
    assert status.phase is Phase.PUBLISHED
    assert {name: service.process.pid for name, service in live.services.items() if service.process} == pids


async def _read_by_the_coordinator(revoked: AsyncClient) -> None:
    """Wait until the coordinator has the new list: it refuses the revoked client, and says of no job that it is unknown."""
    async with asyncio.timeout(PICKED_UP_SECONDS):
        while True:
            with suppress(UnknownJobError):
                try:
                    await revoked.next_plan("no-such-job", join_timeout_seconds=1.0)
                except CertificateError:
                    return
            await asyncio.sleep(0.1)
