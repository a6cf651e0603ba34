"""A whole deployment in one process, over real TLS: key holders, a coordinator, and clients that do as the test says."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc.aio
import numpy as np

from coordinator.config import CoordinatorSettings
from coordinator.rounds.calls import DecryptionRequest
from coordinator.rounds.holders import HolderClient
from coordinator.server import CoordinatorServer
from he.ciphertext import Ciphertext, chunk_to_bytes
from he.drawing import public_a
from he.packing import pack
from he.public_key import PublicKey
from secagg import codec, transcript
from secagg.identity import Party, Role
from secagg.ids import ClientId, Digest, HolderId, JobId
from secagg.key_holder.config import KeyHolderSettings
from secagg.key_holder.server import KeyHolderServer
from secagg.messages.round import Half, Join, Phase, Result, Upload
from secagg.plan import CkksJob, Deadlines, JobSpec, RoundPlan, TensorSpec
from secagg.transport import TlsIdentity, error_from_rpc, open_channel
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import operator_service_pb2
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceStub
from secagg.wire.v1.operator_service_pb2_grpc import OperatorServiceStub
from tests.encryption_material import encrypt_once
from tests.files_on_disk import matching
from tests.pki_material import Deployment, deployment

HOLDERS = tuple(HolderId(name) for name in ("north", "south", "east", "west", "centre"))
CALL_SECONDS = 40.0
PART_BYTES = 1024 * 1024


def job_spec(values: int = 10_000, **changes: Any) -> JobSpec:
    fields: dict[str, Any] = {
        "job": JobId("digits"),
        "purpose": "tests",
        "tensors": (
            TensorSpec(name="w", shape=(values,), dtype="float32"),
            TensorSpec(name="b", shape=(3, 2), dtype="float64"),
        ),
        "protocol": CkksJob(holders=HOLDERS),
        "min_contributors": 2,
        "max_clients": 3,
        "max_weight": 100.0,
        "min_total_weight": 60.0,
        "deadlines": Deadlines(
            keying_seconds=30, open_seconds=30, uploading_seconds=30, approving_seconds=30, decrypting_seconds=30
        ),
    }
    return JobSpec(**{**fields, **changes})


class Lie(Enum):
    """What a holder of a cluster does instead of answering."""

    GARBAGE = "signs and sends a wrong answer"
    UNSIGNED = "sends another answer than it signed"
    SILENT = "never answers"


class LyingHolder:
    """A key holder that is honest up to its answer."""

    def __init__(self, honest: HolderClient, identity: TlsIdentity, lie: Lie) -> None:
        self._honest = honest
        self._identity = identity
        self._lie = lie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._honest, name)

    async def decrypt(self, request: DecryptionRequest, *, timeout_seconds: float) -> AsyncIterator[Any]:
        if self._lie is Lie.SILENT:
            await asyncio.sleep(timeout_seconds)
        sent = hashlib.sha256()
        async for message in self._honest.decrypt(request, timeout_seconds=timeout_seconds):
            if isinstance(message, bytes):
                altered = bytes([message[0] ^ 1]) + message[1:]
                sent.update(altered)
                yield altered
            elif self._lie is Lie.GARBAGE:
                statement = replace(message.message, answer_digest=Digest(sent.digest()))
                yield replace(message, message=statement, signed=codec.sign(statement, self._identity.signer))
            else:
                yield message


async def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what happens after an answer was given; fail when it does not."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for happens on disk
            await asyncio.sleep(0.02)


@dataclass
class Cluster:
    """Servers on loopback; `stop` ends them all."""

    directory: Path
    made: Deployment = field(init=False)
    holders: dict[HolderId, KeyHolderServer] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    coordinator: CoordinatorServer | None = None
    limits: dict[str, int] = field(default_factory=dict)
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.made = deployment(self.directory / "pki")

    def path(self, role: Role, name: str, **options: object) -> Path:
        party = Party(role=role, name=name)
        directory = self.made.pki.path_of(party)
        return directory if directory.exists() else self.made.issue(party, **options)

    async def start(self, holders: tuple[HolderId, ...] = HOLDERS, **limits: int) -> None:
        for holder in HOLDERS:
            if holder in holders:
                await self.start_holder(holder)
            else:
                self.addresses[holder] = "127.0.0.1:1"
        self.limits = limits
        await self.start_coordinator()

    async def start_coordinator(self) -> None:
        settings = CoordinatorSettings(
            listen="127.0.0.1:0",
            identity=self.path(Role.COORDINATOR, "coordinator"),
            data_dir=self.directory / "coordinator",
            key_holders=self.addresses,
            limits=self.limits,  # type: ignore[arg-type]
            grace_seconds=1.0,
        )
        self.coordinator = CoordinatorServer(settings)
        await self.coordinator.start()

    async def start_holder(self, holder: HolderId) -> None:
        settings = KeyHolderSettings(
            listen="127.0.0.1:0",
            identity=self.path(Role.KEY_HOLDER, holder),
            data_dir=self.directory / "holders" / holder,
            sealing={"passphrase": "correct horse battery staple"},  # type: ignore[arg-type]
        )
        server = KeyHolderServer(settings)
        await server.start()
        self.holders[holder] = server
        self.addresses[holder] = f"127.0.0.1:{server.port}"

    async def restart_coordinator(self) -> None:
        for channel in self.channels:
            await channel.close()
        self.channels.clear()
        assert self.coordinator is not None
        await self.coordinator.stop(0.0)
        await self.start_coordinator()

    def lie(self, holder: HolderId, lie: Lie) -> None:
        assert self.coordinator is not None
        holders: dict[HolderId, Any] = self.coordinator._engine.around.holders  # type: ignore[assignment]
        holders[holder] = LyingHolder(holders[holder], self.identity(Role.KEY_HOLDER, holder), lie)

    def blobs(self, pattern: str) -> list[Path]:
        return matching(self.directory / "coordinator" / "blobs", pattern)

    async def kill_holder(self, holder: HolderId) -> None:
        await self.holders.pop(holder).stop(0)

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close()
        if self.coordinator is not None:
            await self.coordinator.stop(0.0)
        for server in self.holders.values():
            await server.stop(0)

    def channel(self, identity: TlsIdentity) -> grpc.aio.Channel:
        assert self.coordinator is not None
        target = Party(role=Role.COORDINATOR, name="coordinator")
        made = open_channel(f"127.0.0.1:{self.coordinator.port}", identity, target=target)
        self.channels.append(made)
        return made

    def identity(self, role: Role, name: str) -> TlsIdentity:
        return TlsIdentity.load(self.path(role, name), at=datetime.now(UTC))

    def client(self, name: str) -> ScriptedClient:
        return ScriptedClient(self, self.identity(Role.CLIENT, name))

    async def create(self, spec: JobSpec) -> None:
        stub = OperatorServiceStub(self.channel(self.identity(Role.OPERATOR, "olga")))
        request = operator_service_pb2.CreateJobRequest(request_id=uuid4().hex, spec=codec.job_spec_to_wire(spec))
        await stub.CreateJob(request, timeout=CALL_SECONDS)

    async def ended(self, spec: JobSpec, round: int) -> Any:
        """Watch a round to its end, and return its last status."""
        stub = OperatorServiceStub(self.channel(self.identity(Role.AUDITOR, "ada")))
        request = operator_service_pb2.WatchRoundsRequest(job=spec.job, round=round)
        last = None
        try:
            async for answer in stub.WatchRounds(request, timeout=CALL_SECONDS):
                last = answer.round
        except grpc.aio.AioRpcError as failed:
            raise error_from_rpc(failed, party="coordinator") from failed
        assert last is not None
        return codec.round_status_from_wire(last)


@dataclass
class Prepared:
    """What a client has before it joins."""

    plan: RoundPlan
    ciphertext: Ciphertext
    nonce: bytes
    clipped: int
    roots: tuple[Digest, Digest]


class ScriptedClient:
    """Does each step of the protocol when the test says so, and whatever else the test wants."""

    def __init__(self, cluster: Cluster, identity: TlsIdentity) -> None:
        self.identity = identity
        self.name = ClientId(identity.party.name)
        self.stub = ClientServiceStub(cluster.channel(identity))

    async def call(self, call: Any) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as failed:
            raise error_from_rpc(failed, party="coordinator") from failed

    async def wait_for_round(self, job: str, after: int = 0) -> tuple[RoundPlan, PublicKey]:
        while True:
            request = pb.WaitForRoundRequest(job=job, after_round=after, wait_seconds=20)
            answer = await self.call(self.stub.WaitForRound(request, timeout=CALL_SECONDS))
            if answer.found:
                break
        plan = codec.round_plan_from_wire(answer.plan)
        bundle = codec.key_bundle_from_wire(answer.key, trust=self.identity.trust, at=datetime.now(UTC))
        context = bundle.statements[0].message.context
        key = PublicKey.from_bytes(plan.parameters, public_a(plan.parameters, context), bundle.b)
        return plan, key

    def prepare(self, plan: RoundPlan, key: PublicKey, update: dict[str, Any], weight: float) -> Prepared:
        spec = plan.spec
        vector, clipped = pack(update, weight, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)
        ciphertext = encrypt_once(key, vector)
        roots = (root_of(ciphertext.c0), root_of(ciphertext.c1))
        return Prepared(plan=plan, ciphertext=ciphertext, nonce=secrets.token_bytes(32), clipped=clipped, roots=roots)

    def commitment(self, prepared: Prepared) -> bytes:
        return transcript.ciphertext_commitment(
            plan_digest=prepared.plan.digest,
            key_id=prepared.plan.ckks.key_id,
            client=self.name,
            nonce=prepared.nonce,
            root_c0=prepared.roots[0],
            root_c1=prepared.roots[1],
        )

    async def join(self, prepared: Prepared, **changes: Any) -> None:
        request = self.join_request(prepared, request_id=uuid4().hex, **changes)
        await self.call(self.stub.Join(request, timeout=CALL_SECONDS))

    def join_request(self, prepared: Prepared, *, request_id: str, **changes: Any) -> pb.JoinRequest:
        fields = {
            "plan_digest": prepared.plan.digest,
            "client": self.name,
            "commitment": self.commitment(prepared),
            **changes,
        }
        signed = codec.sign(Join(**fields), self.identity.signer)
        return pb.JoinRequest(
            request_id=request_id,
            job=prepared.plan.spec.job,
            round=prepared.plan.round,
            join=codec.signed_to_wire(signed),
        )

    async def wait_for_roster(self, plan: RoundPlan) -> Digest:
        request = pb.WaitForRosterRequest(job=plan.spec.job, round=plan.round, wait_seconds=30)
        answer = await self.call(self.stub.WaitForRoster(request, timeout=CALL_SECONDS))
        roster = codec.roster_from_wire(answer.roster, trust=self.identity.trust, at=datetime.now(UTC))
        return transcript.roster_digest(plan.digest, [join.message for join in roster.joins])

    def upload_message(self, prepared: Prepared, roster: Digest, **changes: Any) -> Any:
        parameters = prepared.plan.parameters
        fields = {
            "plan_digest": prepared.plan.digest,
            "roster_digest": roster,
            "client": self.name,
            "nonce": prepared.nonce,
            "parameters_digest": Digest(parameters.digest()),
            "level": len(parameters.data_primes),
            "scale": parameters.scale,
            "chunks": parameters.chunks,
            "root_c0": prepared.roots[0],
            "root_c1": prepared.roots[1],
            **changes,
        }
        return codec.signed_to_wire(codec.sign(Upload(**fields), self.identity.signer))

    async def send(self, prepared: Prepared, signed: Any, parts: list[pb.UploadPart] | None = None) -> Any:
        plan, chosen = prepared.plan, parts_of(prepared.ciphertext) if parts is None else parts

        async def requests() -> AsyncIterator[pb.UploadHalvesRequest]:
            header = pb.UploadHeader(request_id=uuid4().hex, job=plan.spec.job, round=plan.round, upload=signed)
            yield pb.UploadHalvesRequest(header=header)
            for part in chosen:
                yield pb.UploadHalvesRequest(part=part)

        return await self.call(self.stub.UploadHalves(requests(), timeout=CALL_SECONDS))

    async def complete(self, prepared: Prepared, signed: Any) -> None:
        plan = prepared.plan
        request = pb.CompleteUploadRequest(request_id=uuid4().hex, job=plan.spec.job, round=plan.round, upload=signed)
        await self.call(self.stub.CompleteUpload(request, timeout=CALL_SECONDS))

    async def offsets(self, plan: RoundPlan) -> Any:
        request = pb.GetUploadOffsetsRequest(job=plan.spec.job, round=plan.round)
        return await self.call(self.stub.GetUploadOffsets(request, timeout=CALL_SECONDS))

    async def upload(self, prepared: Prepared) -> None:
        roster = await self.wait_for_roster(prepared.plan)
        signed = self.upload_message(prepared, roster)
        await self.send(prepared, signed)
        await self.complete(prepared, signed)

    async def outcome(self, plan: RoundPlan) -> Any:
        request = pb.WaitForResultRequest(job=plan.spec.job, round=plan.round, wait_seconds=30)
        return await self.call(self.stub.WaitForResult(request, timeout=CALL_SECONDS))

    async def result(self, plan: RoundPlan) -> tuple[Result, dict[str, Any]]:
        answer = await self.outcome(plan)
        assert codec.phase_from_wire(answer.phase) is Phase.PUBLISHED, answer.reason
        signed = codec.signed_from_wire(answer.result)
        result = codec.authenticate(signed, Result, trust=self.identity.trust, at=datetime.now(UTC)).message
        data = await self.download(plan)
        assert hashlib.sha256(data).digest() == result.mean_digest
        assert len(data) == result.mean_bytes
        return result, tensors_of(plan.spec, data)

    async def download(self, plan: RoundPlan, offset: int = 0) -> bytes:
        request = pb.DownloadMeanRequest(job=plan.spec.job, round=plan.round, offset=offset)
        parts = [answer.data async for answer in self.stub.DownloadMean(request, timeout=CALL_SECONDS)]
        return b"".join(parts)


def root_of(half: Any) -> Digest:
    root = transcript.CiphertextRoot()
    for chunk in half:
        root.add(chunk_to_bytes(chunk))
    return root.digest()


def parts_of(ciphertext: Ciphertext, size: int = PART_BYTES) -> list[pb.UploadPart]:
    return [
        part_of(half, offset, data[offset : offset + size])
        for half, array in ((Half.C0, ciphertext.c0), (Half.C1, ciphertext.c1))
        for data in [array.astype("<u4").tobytes()]
        for offset in range(0, len(data), size)
    ]


def part_of(half: Half, offset: int, data: bytes) -> pb.UploadPart:
    digest = hashlib.sha256(data).digest()
    return pb.UploadPart(half=codec.half_to_wire(half), offset=offset, data=data, digest=digest)


def tensors_of(spec: JobSpec, data: bytes) -> dict[str, Any]:
    tensors, offset = {}, 0
    for tensor in spec.tensors:
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
        array = np.frombuffer(data, dtype=dtype, count=tensor.size, offset=offset)
        tensors[tensor.name] = array.reshape(tensor.shape)
        offset += array.nbytes
    assert offset == len(data)
    return tensors


def random_update(spec: JobSpec, seed: int) -> dict[str, Any]:
    source = np.random.default_rng(seed)
    return {tensor.name: source.uniform(-0.5, 0.5, tensor.shape).astype(tensor.dtype) for tensor in spec.tensors}


def weighted_mean(updates: list[dict[str, Any]], weights: list[float]) -> dict[str, Any]:
    return {
        name: sum(weight * update[name].astype(np.float64) for update, weight in zip(updates, weights, strict=True))
        / sum(weights)
        for name in updates[0]
    }


async def whole_round(
    cluster: Cluster, spec: JobSpec, clients: list[ScriptedClient], *, after: int = 0
) -> tuple[RoundPlan, list[dict[str, Any]], list[float]]:
    """Let clients take part in the next round as honest ones do; the seeds of their updates are their places."""
    plan, key = await clients[0].wait_for_round(spec.job, after)
    updates = [random_update(spec, seed) for seed in range(len(clients))]
    weights = [50.0 - 5 * place for place in range(len(clients))]
    prepared = [
        await asyncio.to_thread(client.prepare, plan, key, update, weight)
        for client, update, weight in zip(clients, updates, weights, strict=True)
    ]
    for client, one in zip(clients, prepared, strict=True):
        await client.join(one)
    await asyncio.gather(*(client.upload(one) for client, one in zip(clients, prepared, strict=True)))
    return plan, updates, weights
