"""What gRPC moves over the loopback with mutual TLS and the options that we use: one stream of messages to a server of its own process."""

import asyncio
import multiprocessing
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from benchmarks.stage import Run
from coordinator.upload_streams import INCOMING_OPTIONS
from secagg.party import Party, Role
from secagg.pki import Pki
from secagg.tls_identity import TlsIdentity
from secagg.transport import bind_port, open_channel, server_options

MESSAGE_BYTES = 1 << 20
SERVER = Party(role=Role.COORDINATOR, name="coordinator")
CLIENT = Party(role=Role.CLIENT, name="client")
METHOD = "/bench.Loopback/Upload"
START_SECONDS = 30


def _identities(directory: Path) -> None:
    now, pki = datetime.now(UTC), Pki(directory=directory)
    pki.init(at=now)
    for party in (SERVER, CLIENT):
        pki.issue(party, at=now)


def _identity(directory: Path, party: Party) -> TlsIdentity:
    return TlsIdentity.load(Pki(directory=directory).path_of(party), at=datetime.now(UTC))


async def _count(requests: AsyncIterator[bytes], _: object) -> bytes:
    """Answer with the bytes that came."""
    total = 0
    async for message in requests:
        total += len(message)
    return total.to_bytes(8, "big")


async def _serve(directory: Path, ready: Connection) -> None:
    server = grpc.aio.server(options=[*server_options(), *INCOMING_OPTIONS])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(_count)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Loopback", {"Upload": handler}),))
    ready.send(bind_port(server, "127.0.0.1:0", _identity(directory, SERVER)))
    await server.start()
    await server.wait_for_termination()


def _server(directory: Path, ready: Connection) -> None:
    asyncio.run(_serve(directory, ready))


class Loopback:
    """A server's process, and this process as its client."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name, "pki")
        _identities(self.path)
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        # A daemon: it ends with this process.
        context.Process(target=_server, args=(self.path, there), daemon=True).start()
        if not here.poll(START_SECONDS):
            raise RuntimeError("the server does not start")
        self.address = f"127.0.0.1:{here.recv()}"
        self.identity = _identity(self.path, CLIENT)

    async def asynchronous(self, messages: int) -> int:
        async with open_channel(self.address, self.identity, target=SERVER) as channel:
            upload: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(METHOD)
            answer = await upload(_messages(messages), wait_for_ready=True)
        return int.from_bytes(answer, "big")


def _messages(count: int) -> Iterator[bytes]:
    message = bytes(MESSAGE_BYTES)
    for _ in range(count):
        yield message


def asynchronous(case: Mapping[str, Any]) -> Run:
    loopback, expected = Loopback(), case["messages"] * MESSAGE_BYTES

    def run() -> dict[str, Any]:
        assert asyncio.run(loopback.asynchronous(case["messages"])) == expected
        return {"bytes": expected}

    return run
