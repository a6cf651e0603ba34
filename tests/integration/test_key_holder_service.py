"""Three key holders over gRPC with mutual TLS in one process: ceremony, opening, refusals, restarts."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest

from coordinator.rounds.calls import ContributorPart
from he.ciphertext import chunk_to_bytes
from he.recover import recover
from secagg import codec
from secagg.errors import (
    ConflictError,
    FaultyCoordinatorError,
    MessageError,
    NotFoundError,
)
from secagg.ids import RoundNumber
from secagg.party import Party, Role
from secagg.plan import CeremonyPlan
from secagg.transport import error_from_rpc
from secagg.wire.v1 import key_holder_service_pb2 as pb
from secagg.wire.v1.key_holder_service_pb2_grpc import KeyHolderServiceStub
from tests.files_on_disk import contents_under
from tests.key_holder_house import (
    EAST,
    HOLDERS,
    NORTH,
    SECONDS,
    SOUTH,
    SPEC,
    House,
    _sum,
    damaged,
    opening_of,
    parts_of,
    refused,
)
from tests.pki_material import deployment


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(directory=tmp_path / "holders", made=deployment(tmp_path / "pki"))
    made.directory.mkdir()
    for holder in HOLDERS:
        await made.start(holder)
    yield made
    await made.close()


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


async def test_the_end_destroys_the_share_and_keeps_the_ledger(house: House) -> None:
    opening = await opening_of(house)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    for _ in range(2):
        await opening.pool.calls[NORTH].end_round(opening.ceremony, timeout_seconds=SECONDS)
    store = house.stored(NORTH)
    assert store.shares() == ()
    assert store.approval(opening.plan.ckks.key_id) == opening.digest
    store.close()
    await refused(opening.approve(NORTH), NotFoundError)
    await refused(opening.decrypt(NORTH, approvals), NotFoundError)
    plan = CeremonyPlan(spec=SPEC, round=RoundNumber(1), attempt=1, group=opening.plan.ckks.group)
    await refused(opening.pool.calls[NORTH].begin_ceremony(plan, timeout_seconds=SECONDS), ConflictError)


async def test_nothing_on_disk_names_anybody_once_the_round_is_over(house: House) -> None:
    opening = await opening_of(house)
    await opening.approve(NORTH)
    names = (b"alice", b"bob", *(holder.encode() for holder in HOLDERS), SPEC.job.encode())
    assert any(name in content_of(house) for name in names)
    await opening.pool.calls[NORTH].end_round(opening.ceremony, timeout_seconds=SECONDS)
    await house.stop(NORTH)
    assert not any(name in content_of(house) for name in names)


def content_of(house: House) -> bytes:
    return b"".join(contents_under(house.directory / NORTH).values())


async def test_the_ledger_forgets_a_key_when_it_is_told_to(house: House) -> None:
    await house.stop(NORTH)
    await house.start(NORTH, retention_days=0)
    opening = await opening_of(house)
    await opening.approve(NORTH)
    assert opening.recorded(NORTH) == opening.digest
    await opening.pool.calls[NORTH].end_round(opening.ceremony, timeout_seconds=SECONDS)
    assert opening.recorded(NORTH) is None
    await refused(opening.approve(NORTH), NotFoundError)


async def test_a_share_on_disk_is_sealed(house: House) -> None:
    opening = await opening_of(house)
    store = house.stored(NORTH)
    (stored,) = store.shares()
    store.close()
    assert stored.key_id == opening.plan.ckks.key_id
    assert len(set(np.frombuffer(stored.sealed_share, dtype=np.uint8).tolist())) == 256
    database = (house.directory / NORTH / "key-holder.sqlite3").stat()
    assert database.st_mode & 0o777 == 0o600
    assert b"HEK1" not in stored.sealed_share


async def test_approving_again_needs_no_contributions(house: House) -> None:
    opening = await opening_of(house)
    first = await opening.approve(NORTH)
    assert (await opening.approve(NORTH, [])).message == first.message


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
    assert opening.plan.ckks.group.quorum == 3
    await refused(opening.decrypt(NORTH, approvals[:2]), FaultyCoordinatorError)
    await refused(opening.decrypt(NORTH, [*approvals[:2], approvals[1]]), FaultyCoordinatorError)
