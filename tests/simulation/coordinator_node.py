"""A coordinator in a simulation: its real round driver, relay, spool and recovery, with stores in memory and no gRPC."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from prometheus_client import CollectorRegistry

from coordinator.contracts import Limits, RoundRecord, RoundStore, mean_name
from coordinator.rounds.calls import KeyHolderCalls
from coordinator.rounds.changes import Changes
from coordinator.rounds.live import LiveRound
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.surroundings import Surroundings
from coordinator.spool import UploadSpool
from coordinator.uploads import Uploads
from secagg import codec
from secagg.errors import ConflictError, LateError, NotFoundError, SecAggError, UsageError
from secagg.ids import ClientId, HolderId, RoundNumber
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import FrozenRoster, Half, Join, Phase, Upload
from secagg.plan import RoundPlan
from secagg.roles.coordinator.events import Event, JoinReceived, KeyCertified
from secagg.signing import SignedMessage
from secagg.wire.v1 import client_service_pb2 as pb
from tests.pki_material import COORDINATOR
from tests.simulation.network import Process
from tests.simulation.round_material import EPOCH_SECONDS, SPEC, identity, read

ROUND = RoundNumber(1)


@dataclass
class MemoryBlobs:
    """Blobs that lie in memory (`coordinator.contracts.BlobStore`)."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, parts: Iterable[bytes]) -> int:
        self.blobs[name] = b"".join(parts)
        return len(self.blobs[name])

    def append(self, name: str, offset: int, data: bytes | memoryview) -> int:
        known, new = self.blobs.get(name, b""), bytes(data)
        if offset > len(known):
            raise UsageError(f"{name} has a gap before {offset}")
        old = known[offset : offset + len(new)]
        if old != new[: len(old)]:
            raise ConflictError(f"{name} holds other bytes at {offset}")
        self.blobs[name] = known + new[len(old) :]
        return len(self.blobs[name])

    def sync(self, name: str) -> None:
        """Memory needs none."""

    def size(self, name: str) -> int:
        return len(self.blobs.get(name, b""))

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._of(name)[offset : offset + length]

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._of(name))

    def _of(self, name: str) -> bytes:
        if name not in self.blobs:
            raise NotFoundError(f"there is no blob {name}")
        return self.blobs[name]

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.blobs if not prefix or name == prefix or name.startswith(f"{prefix}/"))

    def delete_prefix(self, prefix: str) -> None:
        for name in self.names(prefix):
            del self.blobs[name]


@dataclass
class MemoryRounds:
    """What a round driver asks of a `coordinator.contracts.RoundStore`, in memory."""

    saved: list[RoundRecord] = field(default_factory=list)
    audited: list[str] = field(default_factory=list)

    def save_round(self, record: RoundRecord) -> None:
        self.saved.append(record)

    def audit(self, job: str, round: int, event: str, details: Mapping[str, Any], at: float) -> None:
        self.audited.append(event)


class WatchedRound(LiveRound):
    """A round whose refusals change nothing, or the simulation fails."""

    async def _step(self, event: Event) -> None:
        before = self.state
        try:
            await super()._step(event)
        except SecAggError:
            assert self.state is before, f"a refused {type(event).__name__} changed the round"
            raise


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a client is shown before it joins."""

    plan: RoundPlan
    bundle: PublicKeyBundle


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a client is shown of a round without a result."""

    reason: str


class CoordinatorNode:
    """One coordinator with one round; its methods are what clients call.

    Args:
        holders: the ways to the key holders.
        key: certified already, or None to have one made in a ceremony.
        defects: collects what fails inside.
    """

    def __init__(
        self, holders: Mapping[HolderId, KeyHolderCalls], key: KeyCertified | None, defects: list[str]
    ) -> None:
        self.process = Process("the coordinator", defects)
        self.blobs, self.store = MemoryBlobs(), MemoryRounds()
        around = Surroundings(
            store=cast("RoundStore", self.store),
            blobs=self.blobs,
            spool=UploadSpool(self.blobs, max_bytes=1 << 30),
            identity=identity(COORDINATOR),
            holders=holders,
            clock=lambda: EPOCH_SECONDS + asyncio.get_running_loop().time(),
            metrics=RoundMetrics(CollectorRegistry()),
            compute=cast("Any", None),
        )
        self._key = key
        self._changes = Changes()
        self._uploads = Uploads(around, Limits())
        self.live = WatchedRound(SPEC, ROUND, around, self._changes)
        if key is not None:
            self.live.chores.make_key = self._use_key  # type: ignore[method-assign]

    def _use_key(self, state: object) -> None:
        assert self._key is not None
        self.live.report(self._key, Phase.KEYING)

    @property
    def plan(self) -> RoundPlan | None:
        return self.live.state.plan

    async def begin(self) -> None:
        await self.live.begin()

    # what clients call; each waits at most as long as the real service does

    async def offer(self, client: ClientId) -> Offer | Ended | None:
        await self._until(lambda: self.live.state.phase is not Phase.KEYING)
        state = self.live.state
        if state.phase is Phase.OPEN and state.plan is not None and state.key is not None:
            return Offer(plan=state.plan, bundle=state.key)
        return None if state.phase is Phase.KEYING else Ended(reason=state.reason or "the round is not open any more")

    async def join(self, signed: SignedMessage) -> None:
        await self.live.apply(JoinReceived(join=read(signed, Join)))

    async def roster(self, client: ClientId) -> FrozenRoster | Ended | None:
        before = (Phase.KEYING, Phase.OPEN, Phase.FROZEN)
        await self._until(lambda: self.live.state.phase not in before)
        state = self.live.state
        if state.roster_digest is not None and state.phase not in before:
            return state.roster
        return Ended(reason=state.reason) if state.phase.ended else None

    async def upload(self, signed: SignedMessage, halves: Mapping[Half, bytes]) -> None:
        upload = read(signed, Upload)
        self._refuse_after_end()
        async with self._uploads.begin(self.live, upload.message) as receive:
            for half, data in halves.items():
                digest = hashlib.sha256(data).digest()
                await receive(pb.UploadPart(half=codec.half_to_wire(half), offset=0, data=data, digest=digest))
        await self._uploads.complete(self.live, upload)

    def _refuse_after_end(self) -> None:
        if self.live.state.phase.ended:
            raise LateError(f"round {ROUND} is over")

    async def result(self, client: ClientId) -> tuple[SignedMessage, bytes] | Ended | None:
        await self._until(lambda: self.live.state.phase.ended)
        state = self.live.state
        if state.phase is Phase.PUBLISHED and self.live.result is not None:
            name = mean_name(SPEC.job, ROUND)
            return self.live.result, self.blobs.read(name, 0, self.blobs.size(name))
        return Ended(reason=state.reason) if state.phase.ended else None

    async def _until(self, holds: Any) -> None:
        await self._changes.wait_until(holds, 20.0)
