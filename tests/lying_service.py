"""A coordinator's service for clients that tells one lie: real gRPC, its real certificate, a key of real key holders.

All clients but alice are its own; alice is whoever calls. What it is asked is written down.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest

from secagg import codec, transcript
from secagg.client import AsyncClient, RoundResult
from secagg.errors import SecAggError
from secagg.ids import Digest, HolderId
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import FrozenRoster, Join, Phase, Result
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan
from secagg.policy import ClientPolicy
from secagg.roles.client.checks import mean_bytes
from secagg.transport import bind_port, server_options
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceServicer, add_ClientServiceServicer_to_server
from tests.holder_material import job_spec
from tests.lying_coordinator import ALICE, LyingCoordinator, signed_by
from tests.pki_material import COORDINATOR

HOLDERS = NORTH, EAST, SOUTH = tuple(HolderId(name) for name in ("north", "east", "south"))
SPEC = job_spec(3, 2, min_contributors=3)
POLICY = ClientPolicy(
    holders=frozenset(HOLDERS), min_holders=3, min_threshold=2, min_corrupt_holders=1, min_contributors=3
)
EVERY_STEP = ["Join", "UploadHalves", "CompleteUpload"]
Offer = tuple[RoundPlan, PublicKeyBundle]


@dataclass(kw_only=True)
class Lies:
    """What is done to each thing before it is shown; left out, it is shown as it is."""

    offer: Callable[[LyingCoordinator, Offer], Offer] = lambda _, offer: offer
    roster: Callable[[LyingCoordinator, FrozenRoster], FrozenRoster] = lambda _, roster: roster
    result: Callable[[LyingCoordinator, Result], Authenticated[Any]] = lambda liar, result: signed_by(
        liar.holders.coordinator, result
    )
    mean: Callable[[bytes], bytes] = lambda mean: mean


@dataclass(kw_only=True)
class LyingServer(ClientServiceServicer):
    """Answers alice; `called` names the methods that changed anything, in their order."""

    liar: LyingCoordinator
    lies: Lies
    called: list[str] = field(default_factory=list)
    roster: FrozenRoster | None = None

    @property
    def plan(self) -> RoundPlan:
        return self.liar.plan

    async def WaitForRound(self, request: pb.WaitForRoundRequest, context: Any) -> pb.WaitForRoundResponse:
        plan, bundle = self.lies.offer(self.liar, (self.plan, self.liar.key.bundle))
        key = codec.key_bundle_to_wire(bundle)
        return pb.WaitForRoundResponse(found=True, plan=codec.round_plan_to_wire(plan), key=key)

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.JoinResponse:
        self.called.append("Join")
        trust, at = self.liar.holders.coordinator.trust, self.liar.holders.made.at
        join = codec.authenticate(codec.signed_from_wire(request.join), Join, trust=trust, at=at)
        self.roster = self.liar.roster(**{ALICE: join})
        return pb.JoinResponse()

    async def WaitForRoster(self, request: pb.WaitForRosterRequest, context: Any) -> pb.WaitForRosterResponse:
        assert self.roster is not None
        shown = self.lies.roster(self.liar, self.roster)
        phase = codec.phase_to_wire(Phase.UPLOADING)
        return pb.WaitForRosterResponse(phase=phase, roster=codec.roster_to_wire(shown))

    async def UploadHalves(
        self, request_iterator: AsyncIterator[pb.UploadHalvesRequest], context: Any
    ) -> pb.UploadHalvesResponse:
        self.called.append("UploadHalves")
        sizes = {"c0_bytes": 0, "c1_bytes": 0}
        async for request in request_iterator:
            if request.HasField("part"):
                half = codec.half_from_wire(request.part.half).value
                sizes[f"{half}_bytes"] += len(request.part.data)
        return pb.UploadHalvesResponse(**sizes)

    async def CompleteUpload(self, request: pb.CompleteUploadRequest, context: Any) -> pb.CompleteUploadResponse:
        self.called.append("CompleteUpload")
        return pb.CompleteUploadResponse()

    async def WaitForResult(self, request: pb.WaitForResultRequest, context: Any) -> pb.WaitForResultResponse:
        signed = self.lies.result(self.liar, self.result())
        phase = codec.phase_to_wire(Phase.PUBLISHED)
        return pb.WaitForResultResponse(phase=phase, result=codec.signed_to_wire(signed.signed))

    async def DownloadMean(
        self, request: pb.DownloadMeanRequest, context: Any
    ) -> AsyncIterator[pb.DownloadMeanResponse]:
        yield pb.DownloadMeanResponse(data=self.lies.mean(self.mean)[request.offset :])

    @property
    def mean(self) -> bytes:
        return bytes(mean_bytes(self.plan))

    def result(self) -> Result:
        assert self.roster is not None
        joins = [one.message for one in self.roster.joins]
        return Result(
            plan_digest=self.plan.digest,
            roster_digest=transcript.roster_digest(self.plan.digest, joins),
            contributors=tuple(join.client for join in joins),
            total_weight=4.0,
            mean_digest=Digest(hashlib.sha256(self.mean).digest()),
            mean_bytes=len(self.mean),
        )


@asynccontextmanager
async def serving(liar: LyingCoordinator, lies: Lies) -> AsyncIterator[tuple[LyingServer, str]]:
    """Yield the service and its address."""
    servicer = LyingServer(liar=liar, lies=lies)
    server = grpc.aio.server(options=server_options())
    add_ClientServiceServicer_to_server(servicer, server)
    port = bind_port(server, "127.0.0.1:0", liar.holders.coordinator)
    await server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def participate(
    liar: LyingCoordinator, address: str, spool: Path, policy: ClientPolicy = POLICY, after_round: int = 0
) -> RoundResult:
    client = AsyncClient(
        address,
        coordinator=COORDINATOR.name,
        identity=liar.clients[ALICE].identity,
        policy=policy,
        spool_dir=spool,
    )
    update = {"w": np.linspace(-1, 1, SPEC.values).astype(np.float32)}
    async with client:
        return await client.participate(SPEC.job, update, 1.0, after_round=after_round, join_timeout_seconds=20)


async def refused(
    liar: LyingCoordinator,
    spool: Path,
    lies: Lies,
    kind: type[SecAggError],
    why: str,
    **options: Any,
) -> LyingServer:
    """Take part with a lying coordinator; return it, with what it got."""
    async with serving(liar, lies) as (server, address):
        with pytest.raises(kind, match=why) as raised:
            await participate(liar, address, spool, **options)
    assert type(raised.value) is kind
    assert is_empty(spool)
    return server


def is_empty(directory: Path) -> bool:
    return not any(directory.iterdir())
