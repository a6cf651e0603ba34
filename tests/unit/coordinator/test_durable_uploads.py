"""A ``ckks`` round of the engine over a real database, with the key holders' real machines: uploads go on over a restart."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from coordinator.client_service import ClientServicer
from coordinator.contracts import EngineResources, Limits
from coordinator.rounds.engine import RoundEngine
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg import codec
from secagg.access import _caller
from secagg.errors import ConflictError, FaultyClientError
from secagg.ids import ClientId, RoundNumber
from secagg.messages.round import Half, Phase, Upload
from secagg.roles.client import rules
from secagg.roles.client.events import CiphertextReady, PlanOffered, RosterFrozen
from secagg.wire.v1 import client_service_pb2 as pb
from tests.pki_material import COORDINATOR
from tests.round_cluster import eventually
from tests.simulation.holder_calls import HolderCalls
from tests.simulation.holder_lies import HolderFate
from tests.simulation.holder_nodes import HolderNode, Witness
from tests.simulation.network import Link, Weather
from tests.simulation.round_material import (
    CLIENTS,
    EPOCH_SECONDS,
    HOLDERS,
    POLICY,
    SPEC,
    Ciphertext,
    bundle_as_read,
    client_party,
    encrypted,
    identity,
    roster_as_read,
    signed_by,
)
from tests.simulation.virtual_time import simulate

ALICE = CLIENTS[0]
_NOBODY = cast("Any", None)


class Served:
    """A coordinator over what lies in a directory, started as often as a test likes."""

    def __init__(self, directory: Path) -> None:
        self.store = SqlRoundStore(f"sqlite:///{directory / 'rounds.db'}")
        self.blobs = DirectoryBlobStore(directory / "blobs")
        self.store.create_job(SPEC, EPOCH_SECONDS)
        self.states: dict[ClientId, Any] = {}
        self.ciphertexts: dict[ClientId, Ciphertext] = {}
        self.uploads: dict[ClientId, Upload] = {}

    async def start(self) -> None:
        nodes = {holder: HolderNode(holder, HolderFate.HONEST, Witness(), []) for holder in HOLDERS}
        for node in nodes.values():
            await node.start()
        self.calls = {name: HolderCalls(node, Link(0, name, Weather(), node.process)) for name, node in nodes.items()}
        await self.restart()

    async def restart(self) -> None:
        if hasattr(self, "engine"):
            await self.engine.stop(0.0)
        resources = EngineResources(
            store=self.store,
            blobs=cast("Any", self.blobs),
            identity=identity(COORDINATOR),
            holders={},
            limits=Limits(),
            clock=lambda: EPOCH_SECONDS + asyncio.get_running_loop().time(),
            metrics=CollectorRegistry(),
        )
        self.engine = RoundEngine(resources, holders=self.calls)
        self.service = ClientServicer(self.engine)
        await self.engine.start()

    async def state(self, *phases: Phase) -> Any:
        run = await self.engine.run_of(SPEC.job)
        await eventually(lambda: run.live is not None and run.live.state.phase in phases, 100.0)
        assert run.live is not None
        return run.live.state

    async def join(self) -> None:
        state = await self.state(Phase.OPEN)
        for client in CLIENTS:
            step = rules.begin(client=client, coordinator=COORDINATOR, policy=POLICY, job=SPEC.job, after_round=0)
            step = rules.step(step.state, PlanOffered(plan=state.plan, bundle=bundle_as_read(state.key)))
            (build,) = step.effects
            self.ciphertexts[client] = made = encrypted(build.public_key, client)  # type: ignore[union-attr]
            roots = {"root_c0": made.root(Half.C0), "root_c1": made.root(Half.C1)}
            step = rules.step(step.state, CiphertextReady(nonce=made.nonce, **roots))
            (send,) = step.effects
            self.states[client] = step.state
            request = {"request_id": "join", "job": SPEC.job, "round": 1, "join": wire(client, send.join)}  # type: ignore[union-attr]
            await self.as_client(client, self.service.Join, pb.JoinRequest(**request))

    async def sealed(self) -> None:
        state = await self.state(Phase.UPLOADING)
        for client in CLIENTS:
            (send,) = rules.step(self.states[client], RosterFrozen(roster=roster_as_read(state.roster))).effects
            self.uploads[client] = send.upload  # type: ignore[union-attr]

    async def send(self, client: ClientId, most: int = 1 << 30) -> Any:
        header = pb.UploadHeader(request_id="up", job=SPEC.job, round=1, upload=wire(client, self.uploads[client]))
        return await self.as_client(client, self.service.UploadHalves, self._stream(header, client, most))

    async def _stream(self, header: pb.UploadHeader, client: ClientId, most: int) -> AsyncIterator[Any]:
        yield pb.UploadHalvesRequest(header=header)
        for half, data in self.ciphertexts[client].halves.items():
            piece = data[:most]
            digest = hashlib.sha256(piece).digest()
            part = pb.UploadPart(half=codec.half_to_wire(half), offset=0, data=piece, digest=digest)
            yield pb.UploadHalvesRequest(part=part)

    async def complete(self, client: ClientId, upload: Upload | None = None) -> Any:
        statement = wire(client, self.uploads[client] if upload is None else upload)
        request = pb.CompleteUploadRequest(request_id="complete", job=SPEC.job, round=1, upload=statement)
        return await self.as_client(client, self.service.CompleteUpload, request)

    @staticmethod
    async def as_client(client: ClientId, method: Any, request: Any) -> Any:
        token = _caller.set(client_party(client))
        try:
            return await method(request, _NOBODY)
        finally:
            _caller.reset(token)


def wire(client: ClientId, message: Any) -> Any:
    return codec.signed_to_wire(signed_by(client_party(client), message).signed)


def test_an_upload_goes_on_over_restarts_and_counts_once(tmp_path: Path) -> None:
    """Half of it before the first one, the rest after it; its completion is answered the same whenever it is asked again."""
    served = Served(tmp_path)

    async def work() -> None:
        await served.start()
        await served.join()
        await served.restart()
        await served.sealed()
        sent = await served.send(ALICE, most=5000)
        assert (sent.c0_bytes, sent.c1_bytes) == (5000, 5000)
        await served.restart()
        asked = pb.GetUploadOffsetsRequest(job=SPEC.job, round=1)
        offsets = await served.as_client(ALICE, served.service.GetUploadOffsets, asked)
        assert (offsets.c0_bytes, offsets.c1_bytes, offsets.complete) == (5000, 5000, False)
        await served.send(ALICE)
        first = await served.complete(ALICE)
        await repeated(first)
        await served.restart()
        await repeated(first)
        for client in CLIENTS[1:]:
            await served.send(client)
            await served.complete(client)
        await served.state(Phase.PUBLISHED)
        await repeated(first)
        await asyncio.sleep(1.0)
        await served.restart()
        await repeated(first)
        await served.engine.stop(0.0)
        record = served.store.round(SPEC.job, RoundNumber(1))
        assert record.status.contributors == tuple(sorted(CLIENTS))
        assert served.blobs.names("") == [record.mean_blob]

    async def repeated(first: Any) -> None:
        with pytest.raises(ConflictError, match="request id"):
            await served.complete(ALICE, replace(served.uploads[ALICE], nonce=bytes(32)))
        assert await served.complete(ALICE) == first

    defects: list[str] = []
    simulate(0, work, defects)
    assert not defects
    served.store.close()


def test_a_chunk_that_counted_before_a_restart_is_still_nobody_elses(tmp_path: Path) -> None:
    """Who copies another's chunk of c1 is found out by whoever goes on with the round."""
    served = Served(tmp_path)

    async def work() -> None:
        await served.start()
        await served.join()
        await served.sealed()
        await served.send(ALICE)
        await served.complete(ALICE)
        await served.restart()
        live = (await served.engine.run_of(SPEC.job)).live
        assert live is not None
        copied = hashlib.sha256(served.ciphertexts[ALICE].halves[Half.C1]).digest()
        assert copied in live._chunks
        live.claim_chunks(ALICE, (copied,))
        with pytest.raises(FaultyClientError, match="copy of another client's"):
            live.claim_chunks(CLIENTS[1], (copied,))
        await served.engine.stop(0.0)

    simulate(0, work)
    served.store.close()
