"""Three key holders over gRPC with mutual TLS in one process: ceremony, opening, refusals, restarts."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinator.rounds.calls import ApprovalRequest, ContributorPart, DecryptionRequest
from coordinator.rounds.holders import HolderPool
from coordinator.rounds.relay import make_key
from he.ciphertext import Ciphertext, chunk_to_bytes
from he.drawing import public_a
from he.encrypt import Encryptor
from he.errors import CeremonyError
from he.partial import Partial
from he.public_key import PublicKey
from he.recover import recover
from he.residues import residues_from_bytes
from secagg import codec, transcript
from secagg.errors import (
    BusyError,
    CertificateError,
    ConfigError,
    ConflictError,
    FaultyCoordinatorError,
    MessageError,
    NotAllowedError,
    NotFoundError,
    RemoteError,
    UsageError,
    WrongPhaseError,
)
from secagg.ids import ClientId, Digest, HolderId, JobId, RoundNumber
from secagg.key_holder.config import KeyHolderSettings
from secagg.key_holder.server import KeyHolderServer
from secagg.key_holder.store import HolderStore
from secagg.messages.ceremony import DealingBundle, Trial, TrialBundle
from secagg.messages.round import FrozenRoster, Join, PartialStatement, Upload
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.plan import CeremonyPlan, RoundPlan
from secagg.policy import HolderPolicy
from secagg.roles.coordinator.events import KeyCertified
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import (
    BeginCeremony,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    Reply,
    SeedAsked,
)
from secagg.roles.key_holder.state import CeremonyState, New
from secagg.tls_identity import TlsIdentity
from secagg.transport import error_from_rpc, open_channel
from secagg.wire.v1 import key_holder_service_pb2 as pb
from secagg.wire.v1.key_holder_service_pb2_grpc import KeyHolderServiceStub
from tests.holder_material import ceremony_plan, job_spec, with_changes
from tests.pki_material import COORDINATOR, OPERATOR, Deployment, deployment

SECONDS = 30.0
HOLDERS = tuple(HolderId(name) for name in ("north", "east", "south"))
NORTH, EAST, SOUTH = HOLDERS
SPEC = job_spec()


def party(holder: HolderId) -> Party:
    return Party(role=Role.KEY_HOLDER, name=holder)


@dataclass
class House:
    """The servers, where they keep things, and a coordinator's channels to them."""

    directory: Path
    made: Deployment
    servers: dict[HolderId, KeyHolderServer] = field(default_factory=dict)
    addresses: dict[HolderId, str] = field(default_factory=dict)
    pools: list[HolderPool] = field(default_factory=list)

    def settings(self, holder: HolderId, **changes: Any) -> KeyHolderSettings:
        fields: dict[str, Any] = {
            "listen": self.addresses.get(holder, "127.0.0.1:0"),
            "identity": self.made.identity(party(holder)).paths.certificate.parent,
            "data_dir": self.directory / holder,
            "sealing": {"key_file": self.directory / f"{holder}.key", "create_key_file": True},
        }
        return KeyHolderSettings.model_validate({**fields, **changes})

    async def start(self, holder: HolderId, *, clock: Any = None, **changes: Any) -> KeyHolderServer:
        settings = self.settings(holder, **changes)
        server = KeyHolderServer(settings) if clock is None else KeyHolderServer(settings, clock=clock)
        await server.start()
        self.servers[holder] = server
        self.addresses[holder] = f"127.0.0.1:{server.port}"
        return server

    async def stop(self, holder: HolderId) -> None:
        await self.servers.pop(holder).stop(0.0)

    @property
    def coordinator(self) -> TlsIdentity:
        return self.made.identity(COORDINATOR)

    def pool(self) -> HolderPool:
        self.pools.append(HolderPool(self.coordinator, self.addresses))
        return self.pools[-1]

    def stored(self, holder: HolderId) -> HolderStore:
        return HolderStore.open(self.directory / holder)

    async def close(self) -> None:
        for pool in self.pools:
            await pool.close()
        for holder in list(self.servers):
            await self.stop(holder)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(directory=tmp_path / "holders", made=deployment(tmp_path / "pki"))
    made.directory.mkdir()
    for holder in HOLDERS:
        await made.start(holder)
    yield made
    await made.close()


@dataclass(kw_only=True)
class Opening:
    """A certified key, two clients' ciphertexts under it, and the request of an honest coordinator."""

    house: House
    pool: HolderPool
    plan: RoundPlan
    ceremony: Digest
    vectors: dict[ClientId, np.ndarray]
    ciphertexts: dict[ClientId, Ciphertext]
    request: ApprovalRequest

    @property
    def digest(self) -> Digest:
        joins = [one.message for one in self.request.roster.joins]
        roster = transcript.roster_digest(self.plan.digest, joins)
        return transcript.request_digest(self.plan.digest, roster, [one.message for one in self.request.uploads])

    def c1(self) -> list[np.ndarray]:
        return [self.ciphertexts[one.message.client].c1 for one in self.request.uploads]

    async def approve(self, holder: HolderId, c1: Sequence[np.ndarray] | None = None) -> Authenticated[Any]:
        return await self.pool.calls[holder].approve(
            self.request, parts_of(self.c1() if c1 is None else c1), timeout_seconds=SECONDS
        )

    async def decrypt(
        self, holder: HolderId, approvals: Iterable[Authenticated[Any]]
    ) -> tuple[bytes, PartialStatement]:
        request = DecryptionRequest(
            key_id=self.plan.protocol.key_id, request_digest=self.digest, approvals=tuple(approvals)
        )
        data, statement = b"", None
        async for part in self.pool.calls[holder].decrypt(request, timeout_seconds=SECONDS):
            if isinstance(part, bytes):
                assert len(part) <= 1 << 20
                data += part
            else:
                statement = part.message
        assert statement is not None
        return data, statement

    def partial(self, holder: HolderId, data: bytes) -> Partial:
        parameters = self.plan.parameters
        values = residues_from_bytes(data, parameters.data_primes, parameters.chunks, degree=parameters.degree)
        number = self.plan.protocol.group.index(holder)
        return Partial(
            parameters=parameters,
            holder=number,
            threshold=parameters.threshold,
            key_id=self.plan.protocol.key_id,
            values=values,
        )

    def recorded(self, holder: HolderId) -> Digest | None:
        store = self.house.stored(holder)
        try:
            return store.approval(self.plan.protocol.key_id)
        finally:
            store.close()


async def parts_of(halves: Sequence[np.ndarray], *, per_part: int = 2) -> AsyncIterator[ContributorPart]:
    for contributor, half in enumerate(halves):
        for first in range(0, len(half), per_part):
            data = b"".join(chunk_to_bytes(chunk) for chunk in half[first : first + per_part])
            yield ContributorPart(contributor=contributor, first_chunk=first, data=data)


def now() -> datetime:
    return datetime.now(UTC)


def authenticated(identity: TlsIdentity, message: Any) -> Authenticated[Any]:
    signed = codec.sign(message, identity.signer)
    return codec.authenticate(signed, type(message), trust=identity.trust, at=now())


async def key_of(house: House, *, round: int = 1) -> tuple[HolderPool, KeyCertified]:
    pool = house.pool()
    made = await make_key(pool.calls, SPEC, RoundNumber(round))
    assert isinstance(made, KeyCertified), made
    return pool, made


def root_of(half: np.ndarray) -> Digest:
    root = transcript.CiphertextRoot()
    for chunk in half:
        root.add(chunk_to_bytes(chunk))
    return root.digest()


def encrypted(key: KeyCertified, seed: int) -> tuple[np.ndarray, Ciphertext]:
    parameters = key.plan.parameters
    hellos = [one.message for one in key.bundle.hellos]
    context = transcript.ceremony_context(key.bundle.plan.digest, hellos)
    public_key = PublicKey.from_bytes(parameters, public_a(parameters, context), key.bundle.b)
    assert public_key.digest() == key.bundle.statements[0].message.public_key_digest
    vector = np.random.default_rng(seed).uniform(-1, 1, parameters.values)
    return vector, Encryptor(public_key).encrypt(vector)


async def opening_of(house: House, *, round: int = 1) -> Opening:
    pool, key = await key_of(house, round=round)
    plan, clients = key.plan, [ClientId("alice"), ClientId("bob")]
    made = {client: encrypted(key, seed) for seed, client in enumerate(clients)}
    roots = {client: (root_of(one.c0), root_of(one.c1)) for client, (_, one) in made.items()}
    identities = {client: house.made.identity(Party(role=Role.CLIENT, name=client)) for client in clients}
    nonces = {client: hashlib.sha256(client.encode()).digest() for client in clients}
    joins = []
    for client in clients:
        commitment = transcript.ciphertext_commitment(
            plan_digest=plan.digest,
            key_id=plan.protocol.key_id,
            client=client,
            nonce=nonces[client],
            root_c0=roots[client][0],
            root_c1=roots[client][1],
        )
        joins.append(Join(plan_digest=plan.digest, client=client, commitment=commitment))
    roster_digest = transcript.roster_digest(plan.digest, joins)
    parameters = plan.parameters
    uploads = [
        Upload(
            plan_digest=plan.digest,
            roster_digest=roster_digest,
            client=client,
            nonce=nonces[client],
            parameters_digest=Digest(parameters.digest()),
            level=len(parameters.data_primes),
            scale=parameters.scale,
            chunks=parameters.chunks,
            root_c0=roots[client][0],
            root_c1=roots[client][1],
        )
        for client in clients
    ]
    roster = FrozenRoster(
        plan_digest=plan.digest, joins=tuple(authenticated(identities[one.client], one) for one in joins)
    )
    return Opening(
        house=house,
        pool=pool,
        plan=plan,
        ceremony=key.bundle.plan.digest,
        vectors={client: vector for client, (vector, _) in made.items()},
        ciphertexts={client: one for client, (_, one) in made.items()},
        request=ApprovalRequest(
            plan=plan, roster=roster, uploads=tuple(authenticated(identities[one.client], one) for one in uploads)
        ),
    )


def cause_of(raised: pytest.ExceptionInfo[RemoteError]) -> BaseException | None:
    return raised.value.__cause__


async def refused(call: Any, kind: type[Exception]) -> None:
    """Await a call that has to be refused with the catalogue's error of that kind."""
    with pytest.raises(RemoteError) as raised:
        await call
    assert isinstance(cause_of(raised), kind), cause_of(raised)


async def test_any_two_of_three_open_the_sum_and_the_same_request_gets_the_same_bytes(house: House) -> None:
    opening = await opening_of(house)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    answers = {holder: await opening.decrypt(holder, approvals) for holder in HOLDERS}
    for holder, (data, statement) in answers.items():
        assert statement.answer_digest == hashlib.sha256(data).digest()
        assert await opening.decrypt(holder, approvals) == (data, statement)
    ciphertexts = list(opening.ciphertexts.values())
    ring_sum = _sum(ciphertexts)
    expected = sum(opening.vectors.values())
    for pair in ((NORTH, EAST), (EAST, SOUTH), (SOUTH, NORTH), HOLDERS):
        opened = recover(ring_sum, [opening.partial(holder, answers[holder][0]) for holder in pair])
        assert np.abs(opened - expected).max() < 1e-4


def _sum(ciphertexts: Sequence[Ciphertext]) -> Ciphertext:
    from he.accumulate import Accumulator

    total = Accumulator(ciphertexts[0].parameters)
    for ciphertext in ciphertexts:
        total.add(ciphertext)
    return total.finish()


async def test_the_end_destroys_the_share_and_keeps_the_ledger(house: House) -> None:
    opening = await opening_of(house)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    for _ in range(2):
        await opening.pool.calls[NORTH].end_round(opening.ceremony, timeout_seconds=SECONDS)
    store = house.stored(NORTH)
    assert store.shares() == ()
    assert store.approval(opening.plan.protocol.key_id) == opening.digest
    store.close()
    await refused(opening.approve(NORTH), NotFoundError)
    await refused(opening.decrypt(NORTH, approvals), NotFoundError)
    plan = CeremonyPlan(spec=SPEC, round=RoundNumber(1), attempt=1, group=opening.plan.protocol.group)
    await refused(opening.pool.calls[NORTH].begin_ceremony(plan, timeout_seconds=SECONDS), ConflictError)


async def test_a_share_on_disk_is_sealed(house: House) -> None:
    opening = await opening_of(house)
    store = house.stored(NORTH)
    (stored,) = store.shares()
    store.close()
    assert stored.key_id == opening.plan.protocol.key_id
    assert len(set(np.frombuffer(stored.sealed_share, dtype=np.uint8).tolist())) == 256
    database = (house.directory / NORTH / "key-holder.sqlite3").stat()
    assert database.st_mode & 0o777 == 0o600
    assert b"HEK1" not in stored.sealed_share


async def test_approving_again_needs_no_contributions(house: House) -> None:
    opening = await opening_of(house)
    first = await opening.approve(NORTH)
    assert (await opening.approve(NORTH, [])).message == first.message


def damaged(half: np.ndarray, damage: str, prime: int) -> np.ndarray:
    made = half.copy()
    if damage == "residue at the prime":
        made[1, 0, 5] = prime
    elif damage == "transparent":
        made[1] = 0
    elif damage == "too few chunks":
        made = made[:-1]
    elif damage == "too many chunks":
        made = np.concatenate([made, made[:1]])
    else:
        made[1, 0, 5] = (int(made[1, 0, 5]) + 1) % prime
    return made


@pytest.mark.parametrize(
    "damage", ["residue at the prime", "transparent", "too few chunks", "too many chunks", "altered"]
)
@pytest.mark.parametrize("contributor", [0, 1])
async def test_a_damaged_c1_is_refused_and_nothing_recorded(house: House, damage: str, contributor: int) -> None:
    opening = await opening_of(house)
    halves = opening.c1()
    halves[contributor] = damaged(halves[contributor], damage, opening.plan.parameters.data_primes[0])
    await refused(opening.approve(NORTH, halves), FaultyCoordinatorError)
    assert opening.recorded(NORTH) is None
    await opening.approve(NORTH)
    assert opening.recorded(NORTH) == opening.digest


@pytest.mark.parametrize("order", [(1, 0), (0,), (0, 0), (0, 1, 1)])
async def test_contributions_come_in_order_and_complete(house: House, order: tuple[int, ...]) -> None:
    opening = await opening_of(house)
    halves = opening.c1()

    async def parts() -> AsyncIterator[ContributorPart]:
        for place in order:
            async for part in parts_of([halves[place]]):
                yield replace(part, contributor=place)

    await refused(
        opening.pool.calls[NORTH].approve(opening.request, parts(), timeout_seconds=SECONDS), FaultyCoordinatorError
    )
    assert opening.recorded(NORTH) is None


async def test_a_stream_without_its_header_is_refused(house: House) -> None:
    opening = await opening_of(house)
    stub = KeyHolderServiceStub(house.pool()._channels[NORTH])
    header = pb.ApproveHeader(
        request_id="one",
        plan=codec.round_plan_to_wire(opening.plan),
        roster=codec.roster_to_wire(opening.request.roster),
        uploads=[codec.signed_to_wire(one.signed) for one in opening.request.uploads],
    )
    part = pb.ApprovePart(contributor=0, first_chunk=0, data=chunk_to_bytes(opening.c1()[0][0]))
    streams = [[], [pb.ApproveRequest(part=part)], [pb.ApproveRequest(header=header)] * 2]
    for messages in streams:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Approve(iter(messages), timeout=SECONDS)
        assert isinstance(error_from_rpc(raised.value), MessageError)
    assert opening.recorded(NORTH) is None


async def test_a_forged_or_foreign_signature_is_refused(house: House) -> None:
    opening = await opening_of(house)
    uploads = list(opening.request.uploads)
    forged = replace(uploads[1].signed, signature=uploads[0].signed.signature)
    foreign = codec.sign(uploads[1].message, house.made.identity(Party(role=Role.CLIENT, name="alice")).signer)
    for signed in (forged, foreign):
        opening.request = replace(opening.request, uploads=(uploads[0], replace(uploads[1], signed=signed)))
        await refused(opening.approve(NORTH), MessageError)
    assert opening.recorded(NORTH) is None


async def test_one_update_and_a_second_set_are_never_opened(house: House) -> None:
    opening = await opening_of(house)
    both = opening.request
    opening.request = replace(both, uploads=both.uploads[:1])
    await refused(opening.approve(NORTH), FaultyCoordinatorError)
    assert opening.recorded(NORTH) is None


async def test_less_than_a_quorum_gets_no_answer(house: House) -> None:
    opening = await opening_of(house)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    assert opening.plan.protocol.group.quorum == 3
    await refused(opening.decrypt(NORTH, approvals[:2]), FaultyCoordinatorError)
    await refused(opening.decrypt(NORTH, [*approvals[:2], approvals[1]]), FaultyCoordinatorError)


async def test_a_restarted_holder_goes_on_and_keeps_to_its_ledger(house: House) -> None:
    opening = await opening_of(house)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    before = await opening.decrypt(NORTH, approvals)
    await house.stop(NORTH)
    await house.start(NORTH)
    opening.pool = house.pool()
    await refused(opening.decrypt(NORTH, approvals), WrongPhaseError)
    assert (await opening.approve(NORTH)).message == approvals[0].message
    assert await opening.decrypt(NORTH, approvals) == before


async def test_a_restart_after_the_deadlines_destroys_the_share(house: House) -> None:
    opening = await opening_of(house)
    await house.stop(NORTH)
    late = now().timestamp() + SPEC.deadlines.total_seconds + 3600
    await house.start(NORTH, clock=lambda: late)
    opening.pool = house.pool()
    await refused(opening.approve(NORTH), NotFoundError)
    store = house.stored(NORTH)
    assert store.shares() == ()
    store.close()


async def test_a_ceremony_is_begun_once_and_no_restart_begins_it_again(house: House) -> None:
    plan = ceremony_plan(SPEC)
    pool = house.pool()
    first = await pool.calls[NORTH].begin_ceremony(plan, timeout_seconds=SECONDS)
    assert (await pool.calls[NORTH].begin_ceremony(plan, timeout_seconds=SECONDS)).message == first.message
    await house.stop(NORTH)
    await house.start(NORTH)
    await refused(house.pool().calls[NORTH].begin_ceremony(plan, timeout_seconds=SECONDS), ConflictError)
    with pytest.raises(RemoteError):
        await house.pool().calls[NORTH].commit_key(plan.digest, [first], timeout_seconds=SECONDS)


async def test_only_so_many_rounds_are_taken_on(house: House) -> None:
    await house.stop(NORTH)
    await house.start(NORTH, limits={"rounds": 1})
    calls = house.pool().calls[NORTH]
    first, second = ceremony_plan(SPEC, round=1), ceremony_plan(SPEC, round=2)
    await calls.begin_ceremony(first, timeout_seconds=SECONDS)
    await refused(calls.begin_ceremony(second, timeout_seconds=SECONDS), BusyError)
    await calls.end_round(first.digest, timeout_seconds=SECONDS)
    await calls.begin_ceremony(second, timeout_seconds=SECONDS)


async def test_only_so_many_sums_are_kept(house: House) -> None:
    await house.stop(NORTH)
    await house.start(NORTH, limits={"sums": 1})
    first, second = await opening_of(house, round=1), await opening_of(house, round=2)
    await first.approve(NORTH)
    await refused(second.approve(NORTH), BusyError)
    await first.pool.calls[NORTH].end_round(first.ceremony, timeout_seconds=SECONDS)
    await second.approve(NORTH)


async def test_streams_and_digests_of_another_size_are_refused(house: House) -> None:
    stub = KeyHolderServiceStub(house.pool()._channels[NORTH])
    short = pb.EndRoundRequest(request_id="a", ceremony_digest=b"short")
    header = pb.TryKeyRequest(request_id="b", ceremony_digest=bytes(32))
    calls = (
        lambda: stub.EndRound(short, timeout=SECONDS),
        lambda: stub.TryKey(iter([]), timeout=SECONDS),
        lambda: stub.TryKey(iter([header] * 11), timeout=SECONDS),
    )
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call()
        assert isinstance(error_from_rpc(raised.value), MessageError)


async def test_a_request_id_is_not_used_twice(house: House) -> None:
    stub = KeyHolderServiceStub(house.pool()._channels[NORTH])
    for request_id, digest, kind in (("a", bytes(32), None), ("a", b"\1" * 32, ConflictError), ("", b"", UsageError)):
        request = pb.EndRoundRequest(request_id=request_id, ceremony_digest=digest)
        if kind is None:
            await stub.EndRound(request, timeout=SECONDS)
            continue
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.EndRound(request, timeout=SECONDS)
        assert isinstance(error_from_rpc(raised.value), kind)


@pytest.mark.parametrize("caller", [OPERATOR, Party(role=Role.CLIENT, name="alice"), party(EAST)])
async def test_only_a_coordinator_is_answered(house: House, caller: Party) -> None:
    channel = open_channel(house.addresses[NORTH], house.made.identity(caller), target=party(NORTH))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await KeyHolderServiceStub(channel).EndRound(pb.EndRoundRequest(request_id="a"), timeout=SECONDS)
    assert isinstance(error_from_rpc(raised.value), NotAllowedError)


async def test_a_coordinator_that_is_not_pinned_is_not_answered(house: House) -> None:
    await house.stop(NORTH)
    await house.start(NORTH, coordinators=["other"])
    plan = ceremony_plan(SPEC)
    await refused(house.pool().calls[NORTH].begin_ceremony(plan, timeout_seconds=SECONDS), NotAllowedError)


async def test_an_operator_sees_health_and_nothing_else(house: House) -> None:
    channel = open_channel(house.addresses[NORTH], house.made.identity(OPERATOR), target=party(NORTH))
    async with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_metrics_count_what_was_answered(house: House) -> None:
    await house.stop(NORTH)
    server = await house.start(NORTH, metrics_listen="127.0.0.1:0")
    opening = await opening_of(house)
    await opening.approve(NORTH)
    assert server.metrics_port
    assert server._metrics_server is not None
    registry = server._metrics_server._server.registry
    assert registry.get_sample_value("secagg_key_holder_answered_total", {"kind": "Approval"}) == 1
    assert registry.get_sample_value("secagg_key_holder_shares") == 1
    bytes_read = sum(half.nbytes for half in opening.c1())
    assert registry.get_sample_value("secagg_key_holder_c1_bytes_total") == bytes_read


async def test_a_port_in_use_is_told(house: House) -> None:
    settings = house.settings(SOUTH, data_dir=house.directory / "second", listen=house.addresses[NORTH])
    with pytest.raises(ConfigError, match="in use"):
        KeyHolderServer(settings)


async def test_a_certificate_of_another_role_does_not_serve(house: House) -> None:
    directory = house.coordinator.paths.certificate.parent
    with pytest.raises(CertificateError, match="coordinator"):
        KeyHolderServer(house.settings(NORTH, identity=directory, listen="127.0.0.1:0"))


async def test_another_key_file_does_not_open_the_shares(house: House) -> None:
    await house.stop(NORTH)
    sealing = {"key_file": house.directory / "other.key", "create_key_file": True}
    with pytest.raises(ConfigError, match="not this database's"):
        KeyHolderServer(house.settings(NORTH, sealing=sealing))


@dataclass
class Liar:
    """A key holder that the test plays: the real machine, an own signature, and a lie."""

    identity: TlsIdentity
    state: CeremonyState

    def step(self, event: CeremonyEvent) -> Reply:
        taken = ceremony.step(self.state, event)
        self.state = taken.state
        reply = taken.effects[-1]
        assert isinstance(reply, Reply)
        return reply

    def say(self, event: CeremonyEvent) -> Authenticated[Any]:
        return authenticated(self.identity, self.step(event).message)


async def test_a_dead_key_names_its_liar_over_the_wire(house: House) -> None:
    plan = ceremony_plan(SPEC)
    calls = [house.pool().calls[holder] for holder in (NORTH, EAST)]
    liar = Liar(identity=house.made.identity(party(SOUTH)), state=New(holder=SOUTH, policy=HolderPolicy()))
    hellos = (
        *[await one.begin_ceremony(plan, timeout_seconds=SECONDS) for one in calls],
        liar.say(BeginCeremony(plan=plan, seed=bytes(32))),
    )
    commitments = (
        *[await one.commit_key(plan.digest, hellos, timeout_seconds=SECONDS) for one in calls],
        liar.say(HellosReceived(hellos=hellos)),
    )
    own = liar.step(CommitmentsReceived(commitments=commitments))
    dealings = (
        *[await one.deal_shares(plan.digest, commitments, timeout_seconds=SECONDS) for one in calls],
        DealingBundle(dealing=authenticated(liar.identity, own.message), sealed=own.sealed),
    )
    trials = (
        *[await one.try_key(plan.digest, for_receiver(dealings, one.holder), timeout_seconds=SECONDS) for one in calls],
        lying_trial(liar, for_receiver(dealings, SOUTH)),
    )
    for one in calls:
        await refused(one.certify_key(plan.digest, trials, timeout_seconds=SECONDS), CeremonyError)
    openings = (
        *[await one.open_seed(plan.digest, trials, timeout_seconds=SECONDS) for one in calls],
        liar.say(SeedAsked(trials=trials)),
    )
    for one in calls:
        verdict = await one.lay_blame(plan.digest, openings, dealings, timeout_seconds=SECONDS)
        assert verdict.message.liars == (SOUTH,)
        await refused(one.certify_key(plan.digest, trials, timeout_seconds=SECONDS), WrongPhaseError)


def for_receiver(dealings: Sequence[DealingBundle], receiver: HolderId) -> tuple[DealingBundle, ...]:
    return tuple(replace(one, sealed={receiver: one.sealed[receiver]}) for one in dealings)


def lying_trial(liar: Liar, dealings: tuple[DealingBundle, ...]) -> TrialBundle:
    reply = liar.step(DealingsReceived(dealings=dealings))
    answer = reply.attachment[:-1] + bytes([reply.attachment[-1] ^ 1])
    assert isinstance(reply.message, Trial)
    trial = replace(reply.message, answer_digest=hashlib.sha256(answer).digest())
    liar.state = with_changes(liar.state, trial=trial, answer=answer)
    return TrialBundle(trial=authenticated(liar.identity, trial), answer=answer)


def test_a_job_of_these_tests_is_a_small_one() -> None:
    assert (SPEC.job, SPEC.parameters(3).chunks) == (JobId("digits"), 3)
