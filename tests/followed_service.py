"""A gRPC service whose files are renewed and revoked while it runs; the test says when it looks at them."""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from secagg.identity_keeper import IdentityKeeper
from secagg.party import Party, Role
from secagg.tls_identity import TlsIdentity
from secagg.transport import RoleInterceptor, bind_port, current_caller, server_options
from tests.pki_material import COORDINATOR, NORTH, OPERATOR, Deployment

TABLE = {
    f"/test.Followed/{name}": frozenset({Role.COORDINATOR, Role.OPERATOR}) for name in ("Who", "Poll", "Up", "Down")
}

ESTABLISHED = "01"
"""As /proc/net/tcp has it."""


def keeper_of(made: Deployment, party: Party) -> IdentityKeeper:
    return IdentityKeeper(made.identity(party))


def peer_certificate(address: str, own: TlsIdentity, *, alpn: str = "h2") -> bytes:
    """Shake hands as a new caller and return the certificate, DER, that the server shows."""
    context = ssl.create_default_context(cadata=own.authority_pem.decode())
    context.load_cert_chain(own.paths.certificate, own.paths.private_key)
    context.set_alpn_protocols([alpn])
    host, _, port = address.rpartition(":")
    with (
        closing(socket.create_connection((host, int(port)), timeout=10.0)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def connections_to(address: str) -> int:
    """Return how many TCP connections to a loopback address stand, counted at the callers' end."""
    host, _, port = address.rpartition(":")
    # gRPC's sockets are IPv6 ones, also to an IPv4 address, which then ends the longer one.
    remote = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{int(port):04X}"
    lines = "".join(Path("/proc/net", name).read_text() for name in ("tcp", "tcp6")).splitlines()
    rows = [line.split() for line in lines]
    return sum(row[2].endswith(remote) and row[3] == ESTABLISHED for row in rows)


@dataclass(kw_only=True)
class FollowedService:
    """What the handlers see and wait for.

    Attributes:
        keeper: the server's identity.
        go_on: what handlers in the middle of a call wait for.
        received: messages that a stream's handler was given.
        ended: how stream handlers were ended.
    """

    keeper: IdentityKeeper
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    received: list[bytes] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    ahead: timedelta = timedelta()
    address: str = ""

    async def who(self, _request: bytes, context: Any) -> bytes:
        [shown] = context.auth_context()["x509_pem_cert"]
        assert current_caller() in (COORDINATOR, OPERATOR)
        return bytes(shown)

    async def poll(self, _request: bytes, _context: object) -> bytes:
        self.received.append(b"polled")
        await self.go_on.wait()
        return b"answer"

    async def up(self, requests: AsyncIterator[bytes], _context: object) -> bytes:
        try:
            async for one in requests:
                self.received.append(one)
        except Exception as error:
            self.ended.append(type(error).__name__)
            raise
        return b"taken"

    async def down(self, _request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"first"
        await self.go_on.wait()
        yield b"second"

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return {
            "/test.Followed/Who": grpc.unary_unary_rpc_method_handler(self.who),
            "/test.Followed/Poll": grpc.unary_unary_rpc_method_handler(self.poll),
            "/test.Followed/Up": grpc.stream_unary_rpc_method_handler(self.up),
            "/test.Followed/Down": grpc.unary_stream_rpc_method_handler(self.down),
        }.get(details.method)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, served: FollowedService) -> None:
        self._served = served

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._served.service(handler_call_details)


@asynccontextmanager
async def serving(made: Deployment, *, recheck_seconds: float = 0.0) -> AsyncIterator[FollowedService]:
    """Serve as a key holder."""
    served = FollowedService(keeper=keeper_of(made, NORTH))
    identity = served.keeper.identity
    roles = RoleInterceptor(TABLE, identity.trust, now=served.now, recheck_seconds=recheck_seconds)
    server = grpc.aio.server(interceptors=[roles], options=server_options())
    server.add_generic_rpc_handlers((_Handlers(served),))
    served.address = f"127.0.0.1:{bind_port(server, '127.0.0.1:0', identity)}"
    await server.start()
    try:
        yield served
    finally:
        await server.stop(0)
