"""A key holder in operation: restarts, bounds, roles, metrics, and a dead key over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from he.errors import CeremonyError
from secagg.errors import (
    BusyError,
    CertificateError,
    ConfigError,
    ConflictError,
    MessageError,
    NotAllowedError,
    NotFoundError,
    RemoteError,
    UsageError,
    WrongPhaseError,
)
from secagg.ids import JobId
from secagg.key_holder.server import KeyHolderServer
from secagg.messages.ceremony import DealingBundle
from secagg.party import Party, Role
from secagg.policy import HolderPolicy
from secagg.roles.key_holder.events import (
    BeginCeremony,
    CommitmentsReceived,
    HellosReceived,
    SeedAsked,
)
from secagg.roles.key_holder.state import New
from secagg.transport import error_from_rpc, open_channel
from secagg.wire.v1 import key_holder_service_pb2 as pb
from secagg.wire.v1.key_holder_service_pb2_grpc import KeyHolderServiceStub
from tests.holder_material import ceremony_plan
from tests.key_holder_house import (
    EAST,
    HOLDERS,
    NORTH,
    SECONDS,
    SOUTH,
    SPEC,
    House,
    authenticated,
    now,
    opening_of,
    party,
    refused,
)
from tests.lying_holder import Liar, for_receiver, lying_trial
from tests.pki_material import OPERATOR, deployment


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(directory=tmp_path / "holders", made=deployment(tmp_path / "pki"))
    made.directory.mkdir()
    for holder in HOLDERS:
        await made.start(holder)
    yield made
    await made.close()


async def test_a_restarted_holder_goes_on_and_keeps_to_its_ledger(house: House) -> None:
    opening = await opening_of(house)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    before = await opening.decrypt(NORTH, approvals)
    await house.stop(NORTH)
    await house.start(NORTH)
    opening.pool = house.pool()
    assert await opening.decrypt(NORTH, approvals) == before
    assert (await opening.approve(NORTH, [])).message == approvals[0].message


@pytest.mark.parametrize("loss", ["gone", "altered", "short"])
async def test_a_sum_that_is_lost_is_shown_again_and_never_answered_from(house: House, loss: str) -> None:
    opening = await opening_of(house)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    before = await opening.decrypt(NORTH, approvals)
    lose(house.directory / NORTH / "sums", loss)
    await refused(opening.decrypt(NORTH, approvals), WrongPhaseError)
    assert (await opening.approve(NORTH)).message == approvals[0].message
    assert await opening.decrypt(NORTH, approvals) == before
    await house.stop(NORTH)
    lose(house.directory / NORTH / "sums", loss)
    await house.start(NORTH)
    opening.pool = house.pool()
    await refused(opening.decrypt(NORTH, approvals), WrongPhaseError)
    assert (await opening.approve(NORTH)).message == approvals[0].message
    assert await opening.decrypt(NORTH, approvals) == before


def lose(directory: Path, loss: str) -> None:
    (path,) = directory.iterdir()
    content = path.read_bytes()
    if loss == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-4] if loss == "short" else bytes([content[0] ^ 1]) + content[1:])


async def test_a_sum_lies_on_disk_for_its_owner_alone_and_goes_with_the_round(house: House) -> None:
    opening = await opening_of(house)
    await opening.approve(NORTH)
    directory = house.directory / NORTH / "sums"
    (path,) = directory.iterdir()
    parameters = opening.plan.parameters
    assert path.stat().st_size == 4 * parameters.chunks * len(parameters.data_primes) * parameters.degree
    assert (directory.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    await opening.pool.calls[NORTH].end_round(opening.ceremony, timeout_seconds=SECONDS)
    assert list(directory.iterdir()) == []


async def test_a_restart_after_the_deadlines_destroys_the_share(house: House) -> None:
    opening = await opening_of(house)
    await house.stop(NORTH)
    late = now().timestamp() + SPEC.longest_seconds + 3600
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


def test_a_job_of_these_tests_is_a_small_one() -> None:
    assert (SPEC.job, SPEC.parameters(3).chunks) == (JobId("digits"), 3)
