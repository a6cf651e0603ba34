"""Mutual TLS and roles on a real gRPC server over loopback, with certificates of `secagg pki`.

The health service stands behind the interceptor, and a service of this file that has every
streaming kind.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from he.errors import HEError
from secagg.certificates import Authority, make_certificate, new_private_key
from secagg.errors import (
    CertificateError,
    ConfigError,
    FaultyClientError,
    NotAllowedError,
    RemoteError,
    SecAggError,
    UnreachableError,
    UsageError,
)
from secagg.party import Party, Role
from secagg.signing import Signer
from secagg.tls_identity import TlsIdentity
from secagg.transport import (
    MAX_MESSAGE_BYTES,
    RoleInterceptor,
    bind_port,
    channel_options,
    current_caller,
    error_from_rpc,
    open_channel,
    open_sync_channel,
    raise_from_rpc,
    server_options,
)
from tests.pki_material import ALICE, AUDITOR, COORDINATOR, NORTH, OPERATOR, Deployment, authority, deployment

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
OPEN_TO = frozenset({Role.COORDINATOR, Role.OPERATOR})
LIMIT_SECONDS = 10.0
TABLE = {CHECK: OPEN_TO} | {
    f"/test.Echo/{name}": OPEN_TO for name in ("UU", "US", "SU", "SS", "Fail", "FailLate", "Slow")
}


async def _who(_request: bytes, _context: object) -> bytes:
    before = current_caller()
    await asyncio.sleep(0)
    assert current_caller() == before
    return str(before).encode()


async def _fail(request: bytes, context: Any) -> bytes:
    kinds = {
        b"ours": FaultyClientError("bob", "a forged signature"),
        b"theirs": RuntimeError("/secret/path"),
        b"lattice": HEError("/secret/number"),
    }
    context.set_trailing_metadata((("of-the-handler", "kept"),))
    if request == b"abort":
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "as the handler wished")
    raise kinds[request]


class _Echo(grpc.GenericRpcHandler):
    async def _us(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        yield request
        yield await _who(request, context)

    async def _su(self, requests: AsyncIterator[bytes], context: object) -> bytes:
        return b"".join([one async for one in requests]) + await _who(b"", context)

    async def _ss(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        async for one in requests:
            yield one + await _who(one, context)

    async def _fail_late(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        yield b"first"
        await _fail(request, context)

    async def _slow(self, _request: bytes, _context: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    def _blocking(self, request: bytes, _context: object) -> bytes:
        return request

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return {
            "/test.Echo/UU": grpc.unary_unary_rpc_method_handler(_who),
            "/test.Echo/US": grpc.unary_stream_rpc_method_handler(self._us),
            "/test.Echo/SU": grpc.stream_unary_rpc_method_handler(self._su),
            "/test.Echo/SS": grpc.stream_stream_rpc_method_handler(self._ss),
            "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(_fail),
            "/test.Echo/FailLate": grpc.unary_stream_rpc_method_handler(self._fail_late),
            "/test.Echo/Slow": grpc.unary_unary_rpc_method_handler(self._slow),
            "/test.Echo/Blocking": grpc.unary_unary_rpc_method_handler(self._blocking),
            "/test.Echo/NotInTable": grpc.unary_unary_rpc_method_handler(_who),
        }.get(details.method)


@asynccontextmanager
async def _serving(
    identity: TlsIdentity, table: dict[str, frozenset[Role]] = TABLE, *, ahead: timedelta = timedelta()
) -> AsyncIterator[str]:
    """Serve with the identity; yield the address. `ahead` moves the interceptor's clock, not TLS's."""
    interceptor = RoleInterceptor(table, identity.trust, now=lambda: datetime.now(UTC) + ahead)
    server = grpc.aio.server(interceptors=[interceptor], options=server_options())
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_generic_rpc_handlers((_Echo(),))
    port = bind_port(server, "127.0.0.1:0", identity)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def _check(address: str, identity: TlsIdentity, target: Party = NORTH) -> int:
    """Call the health service; raise our own error when that fails."""
    async with open_channel(address, identity, target=target) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=LIMIT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise_from_rpc(error, party=str(target))
        return int(answer.status)


async def _echo(address: str, identity: TlsIdentity, name: str, request: bytes = b"") -> bytes:
    async with open_channel(address, identity, target=NORTH) as channel:
        try:
            return bytes(await channel.unary_unary(f"/test.Echo/{name}")(request, timeout=LIMIT_SECONDS))
        except grpc.aio.AioRpcError as error:
            raise_from_rpc(error, party=str(NORTH))


@dataclass(frozen=True)
class Parties:
    deployment: Deployment
    north: TlsIdentity
    coordinator: TlsIdentity


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    made = deployment(tmp_path / "pki")
    return Parties(deployment=made, north=made.identity(NORTH), coordinator=made.identity(COORDINATOR))


def _reissued(identity: TlsIdentity, issuer: Authority, *, at: datetime) -> TlsIdentity:
    """Return the identity with a certificate of another CA or time, as a liar would show it."""
    key = new_private_key()
    certificate = make_certificate(issuer, identity.party, key.public_key(), at=at, days=1)
    return replace(
        identity,
        signer=Signer(private_key=key, certificate=certificate.public_bytes(Encoding.DER)),
        certificate_pem=certificate.public_bytes(Encoding.PEM),
        private_key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _foreign(identity: TlsIdentity) -> TlsIdentity:
    return _reissued(identity, authority(at=datetime.now(UTC)), at=datetime.now(UTC))


def _expired(parties: Parties, identity: TlsIdentity) -> TlsIdentity:
    return _reissued(identity, _authority_of(parties.deployment), at=datetime.now(UTC) - timedelta(days=2))


def _authority_of(made: Deployment) -> Authority:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate = x509.load_pem_x509_certificate((made.directory / "ca.pem").read_bytes())
    key: Any = load_pem_private_key((made.directory / "ca.key.pem").read_bytes(), None)
    return Authority(certificate=certificate, private_key=key)


class TestWhoIsServed:
    async def test_the_right_role_is_served(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            assert await _check(address, parties.coordinator) == health_pb2.HealthCheckResponse.SERVING

    async def test_a_blocking_channel_is_served_too(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            with open_sync_channel(address, parties.coordinator, target=NORTH) as channel:
                call = channel.unary_unary("/test.Echo/UU")
                answer = await asyncio.to_thread(call, b"", timeout=LIMIT_SECONDS)
                assert answer == b"coordinator/main"
                with pytest.raises(grpc.RpcError) as failed:
                    await asyncio.to_thread(channel.unary_unary("/test.Echo/Nowhere"), b"", timeout=LIMIT_SECONDS)
                assert isinstance(error_from_rpc(failed.value), NotAllowedError)

    async def test_every_streaming_kind_knows_its_caller(self, parties: Parties) -> None:
        async def requests() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        async with (
            _serving(parties.north) as address,
            open_channel(address, parties.coordinator, target=NORTH) as channel,
        ):
            assert await channel.unary_unary("/test.Echo/UU")(b"") == b"coordinator/main"
            assert [one async for one in channel.unary_stream("/test.Echo/US")(b"a")] == [b"a", b"coordinator/main"]
            assert await channel.stream_unary("/test.Echo/SU")(requests()) == b"abcoordinator/main"
            answers = [one async for one in channel.stream_stream("/test.Echo/SS")(requests())]
            assert answers == [b"acoordinator/main", b"bcoordinator/main"]

    async def test_callers_at_the_same_time_are_not_confused(self, parties: Parties) -> None:
        callers = [parties.coordinator, parties.deployment.identity(OPERATOR)] * 10
        async with _serving(parties.north) as address:
            answers = await asyncio.gather(*(_echo(address, caller, "UU") for caller in callers))
        assert answers == [str(caller.party).encode() for caller in callers]

    def test_outside_a_call_there_is_no_caller(self) -> None:
        with pytest.raises(UsageError, match="no caller"):
            current_caller()


class TestWhoIsRefused:
    @pytest.mark.parametrize("party", [ALICE, AUDITOR, Party(role=Role.KEY_HOLDER, name="south")], ids=str)
    async def test_another_role(self, parties: Parties, party: Party) -> None:
        async with _serving(parties.north) as address:
            with pytest.raises(
                NotAllowedError, match=f"{party} may not call {CHECK}, which is for coordinator, operator"
            ):
                await _check(address, parties.deployment.identity(party))

    @pytest.mark.parametrize("kind", ["US", "SU", "SS"])
    async def test_another_role_in_every_streaming_kind(self, parties: Parties, kind: str) -> None:
        async def requests() -> AsyncIterator[bytes]:
            yield b"a"

        alice = parties.deployment.identity(ALICE)
        async with _serving(parties.north) as address, open_channel(address, alice, target=NORTH) as channel:
            asks, answers = ("stream" if letter == "S" else "unary" for letter in kind)
            call = getattr(channel, f"{asks}_{answers}")(f"/test.Echo/{kind}")(requests() if asks == "stream" else b"")
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await (call if answers == "unary" else call.read())
            assert isinstance(error_from_rpc(failed.value), NotAllowedError)

    @pytest.mark.parametrize("method", [WATCH, "/test.Echo/NotInTable", "/test.Echo/Nowhere", "/no.Service/At/All"])
    async def test_a_method_that_the_table_does_not_name(self, parties: Parties, method: str) -> None:
        async with (
            _serving(parties.north) as address,
            open_channel(address, parties.coordinator, target=NORTH) as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary(method)(b"", timeout=LIMIT_SECONDS)
            error = error_from_rpc(failed.value)
            assert isinstance(error, NotAllowedError)
            assert f"{method} is not open to anyone" in str(error)

    async def test_a_method_that_the_table_opens_to_nobody(self, parties: Parties) -> None:
        async with _serving(parties.north, {CHECK: frozenset()}) as address:
            with pytest.raises(NotAllowedError, match="which is for nobody"):
                await _check(address, parties.coordinator)

    async def test_a_revoked_caller(self, parties: Parties) -> None:
        parties.deployment.pki.revoke(COORDINATOR, at=datetime.now(UTC))
        reloaded = TlsIdentity.load(parties.north.paths, at=datetime.now(UTC))
        async with _serving(reloaded) as address:
            with pytest.raises(CertificateError, match="coordinator/main was revoked"):
                await _check(address, parties.coordinator)

    async def test_a_caller_whose_certificate_ends_while_it_is_connected(self, parties: Parties) -> None:
        short = _reissued(parties.coordinator, _authority_of(parties.deployment), at=datetime.now(UTC))
        async with _serving(parties.north, ahead=timedelta(days=2)) as address:
            with pytest.raises(CertificateError, match="coordinator/main expired"):
                await _check(address, short)

    async def test_an_expired_caller(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            with pytest.raises(UnreachableError, match="certificate"):
                await _check(address, _expired(parties, parties.coordinator))

    async def test_a_caller_of_a_foreign_ca(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            with pytest.raises(UnreachableError):
                await _check(address, _foreign(parties.coordinator))

    async def test_a_self_signed_caller(self, parties: Parties) -> None:
        itself = authority(at=datetime.now(UTC))
        key_pem = itself.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate_pem = itself.certificate.public_bytes(Encoding.PEM)
        liar = replace(parties.coordinator, certificate_pem=certificate_pem, private_key_pem=key_pem)
        async with _serving(parties.north) as address:
            with pytest.raises(UnreachableError):
                await _check(address, liar)

    async def test_a_caller_without_a_certificate(self, parties: Parties) -> None:
        credentials = grpc.ssl_channel_credentials(root_certificates=parties.north.authority_pem)
        async with (
            _serving(parties.north) as address,
            grpc.aio.secure_channel(address, credentials, options=channel_options(NORTH)) as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/test.Echo/UU")(b"", timeout=LIMIT_SECONDS)
            assert isinstance(error_from_rpc(failed.value), UnreachableError)

    async def test_a_caller_without_tls(self, parties: Parties) -> None:
        async with _serving(parties.north) as address, grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/test.Echo/UU")(b"", timeout=LIMIT_SECONDS)
            assert isinstance(error_from_rpc(failed.value), UnreachableError)

    async def test_a_server_without_tls_admits_nobody(self, parties: Parties) -> None:
        """The interceptor itself asks for a certificate, should the port ever be opened without."""
        server = grpc.aio.server(interceptors=[RoleInterceptor(TABLE, parties.north.trust)])
        server.add_generic_rpc_handlers((_Echo(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await channel.unary_unary("/test.Echo/UU")(b"", timeout=LIMIT_SECONDS)
        finally:
            await server.stop(0)
        error = error_from_rpc(failed.value)
        assert isinstance(error, CertificateError)
        assert "no certificate" in str(error)

    async def test_a_handler_that_would_block_the_loop(self, parties: Parties) -> None:
        async with _serving(parties.north, TABLE | {"/test.Echo/Blocking": OPEN_TO}) as address:
            with pytest.raises(RemoteError):
                await _echo(address, parties.coordinator, "Blocking")


class TestWhichServersAreBelieved:
    @pytest.mark.parametrize(
        "target", [Party(role=Role.KEY_HOLDER, name="south"), Party(role=Role.COORDINATOR, name="north")], ids=str
    )
    async def test_a_server_of_another_name_or_role(self, parties: Parties, target: Party) -> None:
        async with _serving(parties.north) as address:
            with pytest.raises(UnreachableError, match=f"{target} is unreachable") as failed:
                await _check(address, parties.coordinator, target)
        assert "certificate" in failed.value.next_step

    async def test_a_server_of_a_foreign_ca(self, parties: Parties) -> None:
        async with _serving(_foreign(parties.north)) as address:
            with pytest.raises(UnreachableError):
                await _check(address, parties.coordinator)

    async def test_an_expired_server(self, parties: Parties) -> None:
        async with _serving(_expired(parties, parties.north)) as address:
            with pytest.raises(UnreachableError):
                await _check(address, parties.coordinator)

    async def test_a_client_that_plays_a_server(self, parties: Parties) -> None:
        alice = parties.deployment.identity(ALICE)
        server = grpc.aio.server()
        with pytest.raises(UsageError, match="client/alice cannot serve"):
            bind_port(server, "127.0.0.1:0", alice)
        with pytest.raises(UsageError, match="serves nothing"):
            open_channel("127.0.0.1:1", parties.coordinator, target=ALICE)

    async def test_nobody_there(self, parties: Parties) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with pytest.raises(UnreachableError, match="key-holder/north is unreachable"):
                await _check(f"127.0.0.1:{closed.getsockname()[1]}", parties.coordinator)

    async def test_no_answer_in_time(self, parties: Parties) -> None:
        async with (
            _serving(parties.north) as address,
            open_channel(address, parties.coordinator, target=NORTH) as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary("/test.Echo/Slow")(b"", timeout=0.2)
        with pytest.raises(UnreachableError, match="within the deadline"):
            raise_from_rpc(failed.value, party="key-holder/north")


class TestPorts:
    async def test_a_port_in_use_is_a_clear_error(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            second = grpc.aio.server(options=server_options())
            with pytest.raises(ConfigError, match=f"{address} is in use"):
                bind_port(second, address, parties.north)

    async def test_an_address_of_another_machine_is_a_clear_error(self, parties: Parties) -> None:
        with pytest.raises(ConfigError, match="not an address of this machine"):
            bind_port(grpc.aio.server(options=server_options()), "192.0.2.1:0", parties.north)


class TestErrorsOnTheWire:
    async def test_an_error_of_ours_arrives_as_its_own_type(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            with pytest.raises(FaultyClientError) as failed:
                await _echo(address, parties.coordinator, "Fail", b"ours")
        assert failed.value.client_id == "bob"
        assert failed.value.reason == "a forged signature"

    async def test_an_unexpected_error_shows_a_number_and_nothing_else(self, parties: Parties) -> None:
        with capture_logs() as logs:
            async with _serving(parties.north) as address:
                with pytest.raises(RemoteError) as failed:
                    await _echo(address, parties.coordinator, "Fail", b"theirs")
        [entry] = [one for one in logs if one["log_level"] == "error"]
        assert "secret" not in str(failed.value)
        assert entry["incident"] in str(failed.value)
        assert "exc_info" not in entry
        assert "/secret/path" in entry["traceback"]

    async def test_an_error_that_is_hidden_keeps_its_type_and_loses_its_reason(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            with pytest.raises(HEError) as failed:
                await _echo(address, parties.coordinator, "Fail", b"lattice")
        assert "secret" not in str(failed.value)

    async def test_a_handlers_own_abort_and_metadata_stay(self, parties: Parties) -> None:
        async with (
            _serving(parties.north) as address,
            open_channel(address, parties.coordinator, target=NORTH) as channel,
        ):
            call = channel.unary_unary("/test.Echo/Fail")
            with pytest.raises(grpc.aio.AioRpcError) as aborted:
                await call(b"abort")
            with pytest.raises(grpc.aio.AioRpcError) as ours:
                await call(b"ours")
        assert aborted.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert ("of-the-handler", "kept") in tuple(ours.value.trailing_metadata())
        assert isinstance(error_from_rpc(aborted.value), RemoteError)

    async def test_an_error_after_the_first_answer_of_a_stream(self, parties: Parties) -> None:
        async with (
            _serving(parties.north) as address,
            open_channel(address, parties.coordinator, target=NORTH) as channel,
        ):
            call = channel.unary_stream("/test.Echo/FailLate")(b"ours")
            assert await call.read() == b"first"
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call.read()
            aborted = channel.unary_stream("/test.Echo/FailLate")(b"abort")
            assert await aborted.read() == b"first"
            with pytest.raises(grpc.aio.AioRpcError):
                await aborted.read()
        assert isinstance(error_from_rpc(failed.value), FaultyClientError)
        assert aborted.code is not None

    async def test_a_message_above_the_limit_is_refused(self, parties: Parties) -> None:
        async with _serving(parties.north) as address:
            with pytest.raises(SecAggError, match="RESOURCE_EXHAUSTED"):
                await _echo(address, parties.coordinator, "UU", bytes(MAX_MESSAGE_BYTES + 1))
            unlimited = [("grpc.max_send_message_length", -1)]
            async with open_channel(address, parties.coordinator, target=NORTH, options=unlimited) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await channel.unary_unary("/test.Echo/UU")(bytes(MAX_MESSAGE_BYTES + 1), timeout=LIMIT_SECONDS)
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
