"""An engine with a masking job over a real SQLite database, in simulated time; its clients call the real services."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from coordinator.client_service import ClientServicer
from coordinator.contracts import EngineResources, Limits, RoundStore
from coordinator.masking_service import MaskingServicer
from coordinator.rounds import live as live_module
from coordinator.rounds.engine import RoundEngine
from coordinator.rounds.live import LiveRound
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg import codec
from secagg.access import _caller
from secagg.errors import ElsewhereError, StorageError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from secagg.wire.v1 import client_service_pb2, masking_service_pb2
from tests.masking_material import CLIENTS, NONCE, ROUND, SPEC, THRESHOLD, finished
from tests.pki_material import NOW
from tests.round_cluster import eventually
from tests.simulation.masking.parties import COORDINATOR, party, signed, signer, trust
from tests.simulation.virtual_time import simulate

REVEALING = CLIENTS[: THRESHOLD + 1]
"""Whose shares are enough."""


UP_TO = {
    "join": ("join",),
    "shares": ("join", "shares"),
    "complete": ("join", "shares", "vector", "complete"),
    "confirm": ("join", "shares", "vector", "complete", "confirm"),
    "unmask": ("join", "shares", "vector", "complete", "confirm", "unmask"),
}
WHOLE = UP_TO["unmask"]


class Failing:
    """A store that fails where a test says so: before a call is carried out, or after it."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.fails: Callable[[str, tuple[Any, ...]], str] = lambda _name, _args: ""
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        """Return a method of the store that may fail."""
        method = getattr(self.store, name)

        def called(*args: Any, **named: Any) -> Any:
            when = self.fails(name, args)
            self.failed += bool(when)
            if when == "before":
                raise StorageError("the disk is full")
            result = method(*args, **named)
            if when == "after":
                raise StorageError("the answer of the database was lost")
            return result

        return called


class Deployment:
    """What outlives a process: a database, a directory of blobs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Failing(SqlRoundStore(f"sqlite:///{directory / 'rounds.db'}"))
        self.blobs = Failing(DirectoryBlobStore(directory / "blobs"))
        self.store.create_job(SPEC, NOW.timestamp())
        self.engine: RoundEngine = self.new_engine()

    def new_engine(self, owner: str = "first") -> RoundEngine:
        identity = SimpleNamespace(signer=signer(COORDINATOR), trust=trust())
        resources = EngineResources(
            store=cast("RoundStore", self.store),
            blobs=cast("Any", self.blobs),
            identity=cast("Any", identity),
            holders={},
            limits=Limits(),
            clock=lambda: NOW.timestamp() + asyncio.get_running_loop().time(),
            metrics=CollectorRegistry(),
            owner=owner,
        )
        return RoundEngine(resources, holders={})

    async def start(self, owner: str = "first") -> LiveRound | None:
        """Start a process; return the round that it runs."""
        self.engine = self.new_engine(owner)
        self.clients, self.masking = ClientServicer(self.engine), MaskingServicer(self.engine)
        await self.engine.start()
        await asyncio.sleep(0.1)
        return (await self.engine.run_of(SPEC.job)).live

    async def restart(self) -> LiveRound | None:
        await self.engine.stop(0.0)
        return await self.start()

    async def until(self, *phases: Phase) -> Phase:
        def phase() -> Phase:
            return self.store.store.round(SPEC.job, ROUND).status.phase

        await eventually(lambda: phase() in phases, 300.0)
        return phase()

    def close(self) -> None:
        self.store.store.close()

    # calls of clients, each with one request id for all its repetitions

    async def call(self, client: ClientId, what: str, message: Any = None, request_id: str = "") -> Message:
        """Make one call as the gRPC server does."""
        signed_message = codec.signed_to_wire(signed(self.message_of(client, what, message), party(client)))
        common = {"request_id": request_id or f"{what}-{client}", "job": SPEC.job, "round": ROUND}
        token = _caller.set(party(client))
        try:
            match what:
                case "join":
                    request: Any = client_service_pb2.JoinRequest(**common, join=signed_message)
                    return await self.clients.Join(request, cast("Any", None))
                case "shares":
                    request = masking_service_pb2.SendSharesRequest(**common, shares=signed_message)
                    return await self.masking.SendShares(request, cast("Any", None))
                case "vector":
                    return await self.masking.UploadVector(
                        _stream(finished().vectors[client], upload=signed_message, **common), cast("Any", None)
                    )
                case "complete":
                    request = masking_service_pb2.CompleteVectorRequest(**common, upload=signed_message)
                    return await self.masking.CompleteVector(request, cast("Any", None))
                case "confirm":
                    request = masking_service_pb2.ConfirmRequest(**common, confirmation=signed_message)
                    return await self.masking.Confirm(request, cast("Any", None))
                case _:
                    request = masking_service_pb2.UnmaskRequest(**common, unmasking=signed_message)
                    return await self.masking.Unmask(request, cast("Any", None))
        finally:
            _caller.reset(token)

    @staticmethod
    def message_of(client: ClientId, what: str, other: Any = None) -> Any:
        """Return what a client says in a step."""
        if other is not None:
            return other
        made = finished()
        match what:
            case "join":
                return made.join(client).join.message
            case "shares":
                return made.shares(client).shares.message
            case "confirm":
                return made.confirmation(client).confirmation.message
            case "unmask":
                return made.unmasking(client).unmasking.message
        return made.vector(client).upload.message

    async def insist(self, client: ClientId, what: str) -> Message:
        """Make a call again, with the same request, as long as the coordinator says that it can be."""
        async with asyncio.timeout(300):
            while True:
                try:
                    return await self.call(client, what)
                except (StorageError, ElsewhereError):
                    await asyncio.sleep(0.3)

    async def play(self, *steps: str, clients: Iterable[ClientId] = CLIENTS) -> None:
        """Have every client do its part of each step."""
        for step in steps:
            for client in REVEALING if step == "unmask" else clients:
                await self.insist(client, step)


async def _stream(data: bytes, **header: Any) -> AsyncIterator[Any]:
    wire = masking_service_pb2
    yield wire.UploadVectorRequest(header=wire.VectorHeader(**header))
    step = -(-len(data) // 3)
    for offset in range(0, len(data), step):
        piece = data[offset : offset + step]
        part = wire.VectorPart(offset=offset, data=piece, digest=hashlib.sha256(piece).digest())
        yield wire.UploadVectorRequest(part=part)


@contextmanager
def same_nonce() -> Iterator[None]:
    """Begin every round with the nonce of the material."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_module, "secrets", SimpleNamespace(token_bytes=lambda size: NONCE[:size]))
        yield


def run(work: Callable[[], Coroutine[Any, Any, None]], seed: int = 0) -> None:
    """Run a test in simulated time, and see that nothing failed unread."""
    defects: list[str] = []
    with same_nonce():
        simulate(seed, work, defects)
    assert not defects, defects
