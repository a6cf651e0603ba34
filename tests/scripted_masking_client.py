"""A client of a masking round over gRPC: its machine is real, and it takes each step when the test says so."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from he.packing import pack
from secagg import codec
from secagg.errors import LateError, UnreachableError
from secagg.identity import Party, Role
from secagg.ids import ClientId, Digest, JobId
from secagg.masking.masks import masked_pieces
from secagg.messages.masking import Confirmation
from secagg.plan import Deadlines, JobSpec, MaskingJob, RoundPlan, TensorSpec
from secagg.policy import ClientPolicy
from secagg.roles.client import rules
from secagg.roles.client.events import Event, PlanOffered
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    SecretsDrawn,
    SharesShown,
    SurvivorsShown,
    VectorAccepted,
    VectorMasked,
)
from secagg.wire.v1 import client_service_pb2 as client_pb
from secagg.wire.v1 import masking_service_pb2 as pb
from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceStub
from tests.round_cluster import CALL_SECONDS, Cluster, ScriptedClient, random_update

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")
UPLOADS = 5
LONG = {"open_seconds": 30, "sharing_seconds": 30, "uploading_seconds": 30, "confirming_seconds": 30}


def masking_job(**changes: Any) -> JobSpec:
    """Return a job for seven clients, of which two may drop out: k = 6, t = 4, q = 5."""
    fields: dict[str, Any] = {
        "job": JobId("masked"),
        "purpose": "tests",
        "tensors": (
            TensorSpec(name="w", shape=(300_000,), dtype="float32"),
            TensorSpec(name="b", shape=(3, 2), dtype="float64"),
        ),
        "protocol": MaskingJob(corrupt_fraction=0.1, dropout_fraction=0.16),
        "min_contributors": 4,
        "max_clients": 7,
        "max_weight": 100.0,
        "min_total_weight": 60.0,
        "deadlines": Deadlines(**LONG),
    }
    return JobSpec(**{**fields, **changes})


class MaskingClient(ScriptedClient):
    """Takes each step of a masking round when the test says so."""

    def __init__(self, cluster: Cluster, name: str, weight: float) -> None:
        super().__init__(cluster, cluster.identity(Role.CLIENT, name))
        self.masking = MaskingServiceStub(cluster.channel(self.identity))
        self.weight = weight
        self.plan: RoundPlan
        self.vector = b""

    def tell(self, event: Event) -> Any:
        step = rules.step(self.machine, event)
        self.machine = step.state
        (effect,) = step.effects
        return effect

    async def ask(self, method: str, request: Any) -> Any:
        return await self.call(getattr(self.masking, method)(request, timeout=CALL_SECONDS))

    def address(self, **fields: Any) -> dict[str, Any]:
        return {"job": self.plan.spec.job, "round": self.plan.round, **fields}

    def signed(self, message: object) -> Any:
        return codec.signed_to_wire(codec.sign(message, self.identity.signer))

    @property
    def update(self) -> dict[str, Any]:
        return random_update(self.plan.spec, NAMES.index(self.name))

    async def offered(self, job: str) -> None:
        request = client_pb.WaitForRoundRequest(job=job, wait_seconds=20)
        answer = await self.call(self.stub.WaitForRound(request, timeout=CALL_SECONDS))
        assert answer.found
        assert not answer.HasField("key")
        self.plan = codec.round_plan_from_wire(answer.plan)
        self.machine = rules.begin(
            client=self.name,
            coordinator=Party(role=Role.COORDINATOR, name="coordinator"),
            policy=ClientPolicy(min_contributors=4, corrupt_clients=1),
            job=JobId(job),
            after_round=0,
        ).state
        self.tell(PlanOffered(plan=self.plan, bundle=None))

    async def enter(self) -> None:
        effect = self.tell(SecretsDrawn(master_seed=secrets.token_bytes(32)))
        request = client_pb.JoinRequest(**self.address(request_id=uuid4().hex), join=self.signed(effect.join))
        await self.call(self.stub.Join(request, timeout=CALL_SECONDS))

    async def share(self) -> None:
        request = client_pb.WaitForRosterRequest(**self.address(wait_seconds=30))
        answer = await self.call(self.stub.WaitForRoster(request, timeout=CALL_SECONDS))
        trust, at = self.identity.trust, datetime.now(UTC)
        roster = codec.masking_roster_from_wire(answer.masking_roster, trust=trust, at=at)
        self.roster = roster.clients
        self.shares = self.tell(MaskingRosterFrozen(roster=roster)).shares

    async def send_shares(self, request_id: str | None = None) -> None:
        signed = self.signed(self.shares)
        await self.ask(
            "SendShares", pb.SendSharesRequest(**self.address(request_id=request_id or uuid4().hex), shares=signed)
        )

    async def mask(self) -> None:
        answer = await self.ask("WaitForShares", pb.WaitForSharesRequest(**self.address(wait_seconds=30)))
        assert answer.ready, answer.standing
        sharers = codec.clients_at(answer.sharers, self.roster)
        sealed = codec.sealed_shares_from_wire(answer.sealed, self.roster)
        effect = self.tell(SharesShown(sharers=sharers, sealed=sealed))
        assert effect.unopened == ()
        spec = self.plan.spec
        packed, _ = pack(self.update, self.weight, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)
        self.vector = b"".join(masked_pieces(packed, spec.masking_parameters, effect.masks, effect.noise_key))
        digest = Digest(hashlib.sha256(self.vector).digest())
        self.upload_statement = self.tell(VectorMasked(vector_digest=digest, vector_bytes=len(self.vector))).upload

    async def send_vector(self, start: int = 0, stop: int | None = None, vector: bytes | None = None) -> int:
        data = self.vector if vector is None else vector

        async def requests() -> AsyncIterator[pb.UploadVectorRequest]:
            header = pb.VectorHeader(**self.address(request_id=uuid4().hex), upload=self.signed(self.upload_statement))
            yield pb.UploadVectorRequest(header=header)
            for offset in range(start, len(data) if stop is None else stop, 100_000):
                part = data[offset : min(offset + 100_000, stop or len(data))]
                digest = hashlib.sha256(part).digest()
                yield pb.UploadVectorRequest(part=pb.VectorPart(offset=offset, data=part, digest=digest))

        async def upload() -> int:
            return int((await self.call(self.masking.UploadVector(requests(), timeout=CALL_SECONDS))).bytes)

        try:
            return await upload()
        except UnreachableError as broken:
            # Of a refusal that comes while parts are on their way, gRPC may tell no more than that the stream broke. The SDK asks
            # again, and so does this; but what is not refused then broke for no reason.
            for _ in range(UPLOADS):
                with suppress(UnreachableError):
                    await upload()
                    break
            raise AssertionError("an upload broke off that was not refused") from broken

    async def complete_vector(self) -> None:
        signed = self.signed(self.upload_statement)
        await self.ask(
            "CompleteVector", pb.CompleteVectorRequest(**self.address(request_id=uuid4().hex), upload=signed)
        )

    async def upload_all(self) -> None:
        await self.mask()
        await self.send_vector()
        await self.complete_vector()
        self.tell(VectorAccepted())

    async def survivors(self) -> tuple[ClientId, ...]:
        answer = await self.ask("WaitForSurvivors", pb.WaitForSurvivorsRequest(**self.address(wait_seconds=30)))
        assert answer.ready, answer.standing
        return codec.clients_at(answer.survivors, self.roster)

    async def confirm(self) -> None:
        self.confirmation = self.tell(SurvivorsShown(survivors=await self.survivors())).confirmation
        await self.send_confirmation()

    async def send_confirmation(self) -> None:
        signed = self.signed(self.confirmation)
        await self.ask("Confirm", pb.ConfirmRequest(**self.address(request_id=uuid4().hex), confirmation=signed))

    async def confirmations(self) -> Any:
        return await self.ask("WaitForConfirmations", pb.WaitForConfirmationsRequest(**self.address(wait_seconds=30)))

    async def reveal(self) -> None:
        answer = await self.confirmations()
        assert answer.ready, answer.standing
        trust, at = self.identity.trust, datetime.now(UTC)
        shown = codec.authenticate_all(answer.confirmations, Confirmation, trust=trust, at=at)
        self.unmasking = self.tell(ConfirmationsShown(confirmations=shown)).unmasking

    async def unmask(self) -> None:
        """Reveal the shares, unless the others' were enough."""
        with suppress(LateError):
            await self.send_unmasking()

    async def send_unmasking(self) -> None:
        signed = self.signed(self.unmasking)
        await self.ask("Unmask", pb.UnmaskRequest(**self.address(request_id=uuid4().hex), unmasking=signed))


async def each(clients: Iterable[MaskingClient], *steps: str) -> None:
    """Let clients take steps, all of them one before anybody takes the next."""
    for step in steps:
        await asyncio.gather(*(getattr(client, step)() for client in clients))


async def joined(cluster: Cluster, spec: JobSpec, names: Iterable[str] = NAMES) -> list[MaskingClient]:
    await cluster.create(spec)
    clients = [MaskingClient(cluster, name, 50.0 - place) for place, name in enumerate(names)]
    for client in clients:
        await client.offered(spec.job)
    await each(clients, "enter", "share")
    return clients
