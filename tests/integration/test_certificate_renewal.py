"""Certificates that are renewed under running services: nothing is restarted, and nobody is turned away."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from secagg.client import AsyncClient, RoundResult
from secagg.errors import CertificateError
from secagg.identity import Party, Role
from secagg.messages.round import Phase
from secagg.metrics_server import MetricsServer
from secagg.plan import JobSpec
from secagg.tls_identity import TlsIdentity
from secagg.transport import error_from_rpc, open_channel, open_sync_channel
from tests.followed_service import connections_to, keeper_of, peer_certificate, serving
from tests.live_deployment import COORDINATOR as LIVE_COORDINATOR
from tests.live_deployment import LiveDeployment
from tests.live_jobs import HOLDERS, error_bound, largest_error, live_job, updates_of, weights_of
from tests.pki_material import COORDINATOR, NORTH, OPERATOR, Deployment, deployment

CLIENTS = ("alice", "bob", "carol")
LIMIT_SECONDS = 20.0
PICKED_UP_SECONDS = 30.0


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki")


def _renew(made: Deployment, party: Party) -> bytes:
    """Renew a party's certificate; return the new one, DER."""
    path = made.pki.renew(party, at=datetime.now(UTC))
    return _der((path / "cert.pem").read_bytes())


def _der(pem: bytes) -> bytes:
    return load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


async def _who(channel: grpc.aio.Channel) -> bytes:
    return await _called(channel.unary_unary("/test.Followed/Who"))


async def _called(method: Callable[..., Any]) -> bytes:
    return _der(await method(b"", timeout=LIMIT_SECONDS))


class TestServers:
    async def test_new_callers_see_the_new_certificate_and_connected_ones_go_on(self, made: Deployment) -> None:
        caller = made.identity(COORDINATOR)
        async with serving(made) as served, open_channel(served.address, caller, target=NORTH) as connected:
            before = served.keeper.current.signer.certificate
            await _who(connected)
            assert await asyncio.to_thread(peer_certificate, served.address, caller) == before
            renewed = _renew(made, NORTH)
            await asyncio.to_thread(served.keeper.refresh)
            for _ in range(2):
                assert await asyncio.to_thread(peer_certificate, served.address, caller) == renewed != before
            await _who(connected)
            async with open_channel(served.address, caller, target=NORTH) as new:
                await _who(new)

    async def test_a_renewed_server_still_asks_callers_for_a_certificate(self, made: Deployment) -> None:
        caller = made.identity(COORDINATOR)
        async with serving(made) as served:
            _renew(made, NORTH)
            await asyncio.to_thread(served.keeper.refresh)
            await asyncio.to_thread(peer_certificate, served.address, caller)
            credentials = grpc.ssl_channel_credentials(root_certificates=caller.authority_pem)
            options = [("grpc.ssl_target_name_override", NORTH.server_name)]
            async with grpc.aio.secure_channel(served.address, credentials, options=options) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await _who(channel)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_metrics_are_served_with_the_new_certificate(self, made: Deployment) -> None:
        keeper, operator = keeper_of(made, COORDINATOR), made.identity(OPERATOR)
        server = MetricsServer(keeper.identity, CollectorRegistry(), host="127.0.0.1", port=0)
        address = f"127.0.0.1:{server.port}"
        server.start()
        try:
            before = peer_certificate(address, operator, alpn="http/1.1")
            path = made.pki.path_of(COORDINATOR)
            renewed = _renew(made, COORDINATOR)
            # The file is ahead of what is in force: the one before is shown.
            assert peer_certificate(address, operator, alpn="http/1.1") == before
            keeper.refresh()
            right = (path / "cert.pem").read_bytes()
            (path / "cert.pem").write_bytes(right[:200])
            assert peer_certificate(address, operator, alpn="http/1.1") == before
            # One that the keeper refused, with a key that fits: it is never shown.
            south = made.issue(Party(role=Role.COORDINATOR, name="south"))
            for name in ("cert.pem", "key.pem"):
                (path / name).write_bytes((south / name).read_bytes())
            assert peer_certificate(address, operator, alpn="http/1.1") == before
            again = _renew(made, COORDINATOR)
            keeper.refresh()
            assert peer_certificate(address, operator, alpn="http/1.1") == again != renewed
            assert _metrics(server, operator) == 200
            made.pki.revoke(OPERATOR, at=datetime.now(UTC))
            keeper.refresh()
            assert _metrics(server, operator) == 403
        finally:
            server.stop()


def _metrics(server: MetricsServer, operator: TlsIdentity) -> int:
    context = ssl.create_default_context(cadata=operator.authority_pem.decode())
    context.load_cert_chain(operator.paths.certificate, operator.paths.private_key)
    connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=LIMIT_SECONDS)
    with closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().status


class TestChannels:
    async def test_a_stub_made_before_shows_the_new_certificate(self, made: Deployment) -> None:
        keeper = keeper_of(made, COORDINATOR)
        async with serving(made) as served, open_channel(served.address, keeper.identity, target=NORTH) as channel:
            method = channel.unary_unary("/test.Followed/Who")
            assert await _called(method) == keeper.current.signer.certificate
            renewed = _renew(made, COORDINATOR)
            await asyncio.to_thread(keeper.refresh)
            assert await _called(method) == renewed
            await channel.channel_ready()
            assert channel.get_state() is grpc.ChannelConnectivity.READY

    async def test_an_old_certificate_that_is_revoked_with_the_renewal_turns_nobody_away(
        self, made: Deployment
    ) -> None:
        keeper = keeper_of(made, COORDINATOR)
        async with serving(made) as served, open_channel(served.address, keeper.identity, target=NORTH) as channel:
            await _who(channel)
            made.issue(COORDINATOR, force=True)
            await asyncio.to_thread(served.keeper.refresh)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await _who(channel)
            assert isinstance(error_from_rpc(failed.value), CertificateError)
            await asyncio.to_thread(keeper.refresh)
            assert await _who(channel) == keeper.current.signer.certificate

    async def test_calls_of_every_kind_that_run_end_where_they_began(self, made: Deployment) -> None:
        keeper = keeper_of(made, COORDINATOR)
        async with serving(made) as served, open_channel(served.address, keeper.identity, target=NORTH) as channel:
            down = channel.unary_stream("/test.Followed/Down")(b"", timeout=LIMIT_SECONDS)
            up = channel.stream_unary("/test.Followed/Up")(timeout=LIMIT_SECONDS)
            assert await anext(aiter(down)) == b"first"
            await up.write(b"a")
            renewed = _renew(made, COORDINATOR)
            await asyncio.to_thread(keeper.refresh)
            assert await _who(channel) == renewed
            assert connections_to(served.address) == 2
            await up.write(b"b")
            await up.done_writing()
            assert await up == b"taken"
            served.go_on.set()
            assert [one async for one in down] == [b"second"]
            assert served.received == [b"a", b"b"]
            # With its last call, which holds it for as long as anybody holds the call, the connection that was left ends.
            del up, down
            async with asyncio.timeout(LIMIT_SECONDS):
                while connections_to(served.address) > 1:  # noqa: ASYNC110 - gRPC tells nobody when it has hung up
                    await asyncio.sleep(0.02)
            assert await _who(channel) == renewed

    async def test_closing_ends_what_still_runs_on_connections_that_were_left(self, made: Deployment) -> None:
        keeper = keeper_of(made, COORDINATOR)
        async with serving(made) as served:
            channel = open_channel(served.address, keeper.identity, target=NORTH)
            down = channel.unary_stream("/test.Followed/Down")(b"", timeout=LIMIT_SECONDS)
            assert await down.read() == b"first"
            for _ in range(2):
                _renew(made, COORDINATOR)
                await asyncio.to_thread(keeper.refresh)
                await _who(channel)
            async with asyncio.timeout(LIMIT_SECONDS):
                await channel.close()
            with pytest.raises(asyncio.CancelledError):
                await down.read()
            _renew(made, COORDINATOR)
            await asyncio.to_thread(keeper.refresh)
            with pytest.raises(grpc.aio.UsageError):
                await _who(channel)

    async def test_a_blocking_channel_begins_with_the_newest(self, made: Deployment) -> None:
        keeper = keeper_of(made, COORDINATOR)
        held = keeper.identity
        renewed = _renew(made, COORDINATOR)
        await asyncio.to_thread(keeper.refresh)
        async with serving(made) as served:
            with open_sync_channel(served.address, held, target=NORTH) as channel:
                call = channel.unary_unary("/test.Followed/Who")
                shown = await asyncio.to_thread(call, b"", timeout=LIMIT_SECONDS)
        assert _der(shown) == renewed


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("renewal"))
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


async def _round(clients: dict[str, AsyncClient], spec: JobSpec, number: int) -> None:
    """Let the same clients take part once more; hold the mean against plain averaging."""
    updates, weights = updates_of(spec, clients), weights_of(clients)
    parts = (
        client.participate(spec.job, updates[name], weights[name], after_round=number - 1)
        for name, client in clients.items()
    )
    async with asyncio.timeout(60.0):
        results = await asyncio.gather(*parts)
    for result in results:
        assert isinstance(result, RoundResult)
        assert (result.round, result.contributors) == (number, tuple(sorted(clients)))
        assert largest_error(result.mean, updates.values(), weights.values()) < error_bound(spec, weights)


async def _shown(address: str, own: TlsIdentity, certificate: bytes) -> None:
    """Wait until a service shows this certificate."""
    async with asyncio.timeout(PICKED_UP_SECONDS):
        while await asyncio.to_thread(peer_certificate, address, own) != certificate:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


async def test_rounds_go_on_while_every_role_is_renewed_and_the_old_certificates_are_then_revoked(
    live: LiveDeployment,
) -> None:
    spec = await live.create(live_job(rounds=3))
    clients = {name: live.client(name) for name in CLIENTS}
    await _round(clients, spec, 1)
    pids = {name: service.process.pid for name, service in live.services.items() if service.process}
    north = Party(role=Role.KEY_HOLDER, name=HOLDERS[0])
    alice = Party(role=Role.CLIENT, name="alice")
    renewed = (LIVE_COORDINATOR, north, alice)
    probe = live.identity(Role.OPERATOR, "probe")
    old = {party: live.authority.identity(party).signer.certificate for party in renewed}
    new = {party: _renew(live.authority, party) for party in renewed}
    operator, dialler = live.identity(Role.OPERATOR, "olga"), live.authority.identity(LIVE_COORDINATOR)
    await _shown(live.address, operator, new[LIVE_COORDINATOR])
    await _shown(live.addresses[north.name], dialler, new[north])
    await _round(clients, spec, 2)

    for party, der in old.items():
        serial = load_der_x509_certificate(der).serial_number
        live.authority.pki.revoke(party, at=datetime.now(UTC), serial=serial)
    await _lists_read(live, probe)
    await _round(clients, spec, 3)
    assert (await live.ended(spec, 3)).phase is Phase.PUBLISHED
    assert {name: service.process.pid for name, service in live.services.items() if service.process} == pids
    assert all(service.running for service in live.services.values())


async def _lists_read(live: LiveDeployment, probe: TlsIdentity) -> None:
    """Revoke an operator last, and wait until every service refuses it: then they know of all that was revoked before."""
    live.authority.pki.revoke(probe.party, at=datetime.now(UTC))
    services = {LIVE_COORDINATOR: live.address}
    services |= {Party(role=Role.KEY_HOLDER, name=name): address for name, address in live.addresses.items()}
    async with asyncio.timeout(PICKED_UP_SECONDS):
        for party, address in services.items():
            async with open_channel(address, probe, target=party) as channel:
                while not await _refused(channel):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)


async def _refused(channel: grpc.aio.Channel) -> bool:
    check = health_pb2_grpc.HealthStub(channel).Check
    try:
        await check(health_pb2.HealthCheckRequest(), timeout=LIMIT_SECONDS)
    except grpc.aio.AioRpcError as error:
        return isinstance(error_from_rpc(error), CertificateError)
    return False
