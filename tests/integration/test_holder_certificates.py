"""A key holder answers a coordinator of its own CA, and nobody else anything at all (DESIGN section 3, "Identity")."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinator.rounds.holders import HolderClient
from secagg.certificates import Authority
from secagg.errors import CertificateError, NotAllowedError, SecAggError, UnreachableError
from secagg.identity import Party, Role
from secagg.ids import Digest, HolderId
from secagg.key_holder.access_table import ACCESS, KEY_HOLDER_SERVICE
from secagg.tls_identity import TlsIdentity
from secagg.transport import error_from_rpc, open_channel
from secagg.wire.v1 import key_holder_service_pb2 as pb
from secagg.wire.v1.key_holder_service_pb2_grpc import KeyHolderServiceStub
from tests.holder_material import ceremony_plan, job_spec
from tests.holder_processes import HolderProcesses, running
from tests.pki_material import AUDITOR, COORDINATOR, DIAL, OPERATOR, SERVE, Crafted, deployment

NORTH = HolderId("north")
SECONDS = 20.0
FORMER = Party(role=Role.COORDINATOR, name="former")
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def holders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HolderProcesses]:
    with running(tmp_path_factory.mktemp("holders"), [NORTH], revoked=[FORMER]) as made:
        yield made


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> TlsIdentity:
    """A coordinator of the same name, of a CA of its own."""
    return deployment(tmp_path_factory.mktemp("foreign")).identity(COORDINATOR)


def channel_of(holders: HolderProcesses, identity: TlsIdentity) -> grpc.aio.Channel:
    target = Party(role=Role.KEY_HOLDER, name=NORTH)
    return open_channel(holders.addresses[NORTH], identity, target=target)


async def none(message: Any) -> AsyncIterator[Any]:
    yield message


class Method(NamedTuple):
    """One method of the service: how it is called, and whether the answer is a stream."""

    name: str
    call: Callable[[Any], Any]
    streams: bool = False


METHODS = (
    Method("BeginCeremony", lambda s: s.BeginCeremony(pb.BeginCeremonyRequest(request_id="a"), timeout=SECONDS)),
    Method("CommitKey", lambda s: s.CommitKey(pb.CommitKeyRequest(request_id="b"), timeout=SECONDS)),
    Method("DealShares", lambda s: s.DealShares(pb.DealSharesRequest(request_id="c"), timeout=SECONDS)),
    Method("TryKey", lambda s: s.TryKey(none(pb.TryKeyRequest(request_id="d")), timeout=SECONDS)),
    Method("CertifyKey", lambda s: s.CertifyKey(pb.CertifyKeyRequest(request_id="e"), timeout=SECONDS)),
    Method("OpenSeed", lambda s: s.OpenSeed(pb.OpenSeedRequest(request_id="f"), timeout=SECONDS)),
    Method("LayBlame", lambda s: s.LayBlame(none(pb.LayBlameRequest(request_id="g")), timeout=SECONDS)),
    Method("SealRoster", lambda s: s.SealRoster(pb.SealRosterRequest(request_id="k"), timeout=SECONDS)),
    Method(
        "Approve",
        lambda s: s.Approve(none(pb.ApproveRequest(header=pb.ApproveHeader(request_id="h"))), timeout=SECONDS),
    ),
    Method("Decrypt", lambda s: s.Decrypt(pb.DecryptRequest(request_id="i"), timeout=SECONDS), streams=True),
    Method("EndRound", lambda s: s.EndRound(pb.EndRoundRequest(request_id="j"), timeout=SECONDS)),
)


async def answer_to(channel: grpc.aio.Channel, method: Method) -> Any:
    call = method.call(KeyHolderServiceStub(channel))
    return await anext(aiter(call)) if method.streams else await call


async def failure_of(channel: grpc.aio.Channel, method: Method) -> Exception:
    """Return how a call fails; one that does not fails the test."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await answer_to(channel, method)
    return error_from_rpc(raised.value, party="north")


async def verify_nothing_is_answered(
    holders: HolderProcesses, identity: TlsIdentity, kind: type[SecAggError], why: str
) -> None:
    async with channel_of(holders, identity) as channel:
        for method in METHODS:
            error = await failure_of(channel, method)
            assert type(error) is kind, method.name
            assert why in str(error), method.name


def test_these_tests_call_every_method() -> None:
    served = {path.rpartition("/")[2] for path in ACCESS if path.startswith(f"/{KEY_HOLDER_SERVICE}/")}
    assert {method.name for method in METHODS} == served


async def test_the_coordinator_of_the_deployment_is_answered(holders: HolderProcesses) -> None:
    """What is refused below is refused for its certificate, then."""
    async with channel_of(holders, holders.coordinator) as channel:
        plan = ceremony_plan(job_spec())
        hello = await HolderClient(NORTH, channel, holders.coordinator).begin_ceremony(plan, timeout_seconds=SECONDS)
    assert hello.message.holder == NORTH


@pytest.mark.parametrize(
    "caller",
    [
        OPERATOR,
        AUDITOR,
        Party(role=Role.CLIENT, name=COORDINATOR.name),
        Party(role=Role.KEY_HOLDER, name="east"),
        Party(role=Role.KEY_HOLDER, name=NORTH),
    ],
    ids=str,
)
async def test_a_certificate_of_another_role_gets_no_answer(holders: HolderProcesses, caller: Party) -> None:
    identity = holders.made.identity(caller)
    await verify_nothing_is_answered(holders, identity, NotAllowedError, f"{caller} may not call")


async def test_a_revoked_certificate_gets_no_answer(holders: HolderProcesses) -> None:
    await verify_nothing_is_answered(holders, holders.revoked[FORMER], CertificateError, "was revoked")


def is_spoken_to(holders: HolderProcesses, identity: TlsIdentity, directory: Path) -> bool:
    """Say whether a holder sends as much as one byte, after its handshake, to whoever shows this certificate."""
    (directory / "cert.pem").write_bytes(identity.certificate_pem)
    (directory / "key.pem").write_bytes(identity.private_key_pem)
    context = ssl.create_default_context(cadata=holders.coordinator.authority_pem.decode())
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    context.set_alpn_protocols(["h2"])
    name = Party(role=Role.KEY_HOLDER, name=NORTH).server_name
    with (
        socket.create_connection(("127.0.0.1", holders.ports[NORTH]), timeout=SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=name) as connection,
    ):
        connection.sendall(HTTP2_PREFACE)
        with suppress(ssl.SSLError, ConnectionError):
            return connection.recv(1) != b""
    return False


async def verify_tls_refuses(holders: HolderProcesses, identity: TlsIdentity, directory: Path) -> None:
    """Show that the holder ends the connection, where gRPC's client tells no more than that there is none."""
    assert is_spoken_to(holders, holders.coordinator, directory)
    assert not is_spoken_to(holders, identity, directory)
    await verify_nothing_is_answered(holders, identity, UnreachableError, "north")


async def test_a_certificate_of_a_foreign_ca_gets_no_answer(
    holders: HolderProcesses, foreign: TlsIdentity, tmp_path: Path
) -> None:
    """Its owner trusts our CA, so that the connection fails by what it shows and not by what it sees."""
    stranger = replace(foreign, authority_pem=holders.coordinator.authority_pem)
    await verify_tls_refuses(holders, stranger, tmp_path)


def crafted(holders: HolderProcesses, **wrong: Any) -> TlsIdentity:
    """Let the deployment's own CA sign a coordinator's certificate with something wrong in it."""
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "uris": (COORDINATOR.uri,),
        "hosts": (COORDINATOR.server_name,),
        "usages": (DIAL, SERVE),
        "not_before": now - 2 * DAY,
        "not_after": now + DAY,
    }
    made = Crafted(**{**fields, **wrong})
    certificate = made.certificate(authority_of(holders)).public_bytes(Encoding.PEM)
    key = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return replace(holders.coordinator, certificate_pem=certificate, private_key_pem=key)


def authority_of(holders: HolderProcesses) -> Authority:
    directory = holders.made.directory
    key = load_pem_private_key((directory / "ca.key.pem").read_bytes(), password=None)
    certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    return Authority(certificate=certificate, private_key=key)  # type: ignore[arg-type]


async def test_a_well_crafted_certificate_is_answered(holders: HolderProcesses) -> None:
    async with channel_of(holders, crafted(holders)) as channel:
        await KeyHolderServiceStub(channel).EndRound(
            pb.EndRoundRequest(request_id="end", ceremony_digest=Digest(bytes(32))), timeout=SECONDS
        )


async def test_an_expired_certificate_gets_no_answer(holders: HolderProcesses, tmp_path: Path) -> None:
    expired = crafted(holders, not_after=datetime.now(UTC) - DAY)
    await verify_tls_refuses(holders, expired, tmp_path)


async def test_a_certificate_of_tomorrow_gets_no_answer(holders: HolderProcesses, tmp_path: Path) -> None:
    early = crafted(holders, not_before=datetime.now(UTC) + DAY, not_after=datetime.now(UTC) + 2 * DAY)
    await verify_tls_refuses(holders, early, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"uris": (COORDINATOR.uri, OPERATOR.uri)}, "certificate"),
        ({"uris": ()}, "certificate"),
        ({"hosts": ("north.key-holder.secagg.internal",)}, "DNS names of another party"),
    ],
    ids=str,
)
async def test_a_certificate_that_is_not_a_coordinators_in_every_part_gets_no_answer(
    holders: HolderProcesses, wrong: dict[str, Any], why: str
) -> None:
    await verify_nothing_is_answered(holders, crafted(holders, **wrong), CertificateError, why)


async def test_who_shows_no_certificate_gets_no_answer(holders: HolderProcesses) -> None:
    credentials = grpc.ssl_channel_credentials(root_certificates=holders.coordinator.authority_pem)
    options = [("grpc.ssl_target_name_override", Party(role=Role.KEY_HOLDER, name=NORTH).server_name)]
    async with grpc.aio.secure_channel(holders.addresses[NORTH], credentials, options=options) as channel:
        for method in METHODS:
            assert type(await failure_of(channel, method)) is UnreachableError


async def test_who_speaks_without_tls_gets_no_answer(holders: HolderProcesses) -> None:
    async with grpc.aio.insecure_channel(holders.addresses[NORTH]) as channel:
        for method in METHODS:
            assert type(await failure_of(channel, method)) is UnreachableError


@pytest.mark.parametrize(
    "caller", [Party(role=Role.CLIENT, name="alice"), Party(role=Role.KEY_HOLDER, name="east")], ids=str
)
async def test_not_even_health_is_told_to_clients_and_holders(holders: HolderProcesses, caller: Party) -> None:
    async with channel_of(holders, holders.made.identity(caller)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert type(error_from_rpc(raised.value)) is NotAllowedError
