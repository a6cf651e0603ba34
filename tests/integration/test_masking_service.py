"""Masking rounds over gRPC with mutual TLS: a real coordinator, and clients whose machines are real and whose steps the test takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from secagg import codec
from secagg.errors import (
    ConflictError,
    FaultyClientError,
    LateError,
    NotAllowedError,
    SecAggError,
    UsageError,
    WrongPhaseError,
)
from secagg.identity import Role
from secagg.ids import JobId
from secagg.messages.round import Phase, Result, RoundStatus
from secagg.plan import Deadlines
from secagg.roles.client.masking.events import UnmaskingAccepted
from secagg.transport import error_from_rpc
from secagg.wire.v1 import client_service_pb2 as client_pb
from secagg.wire.v1 import masking_service_pb2 as pb
from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceStub
from tests.files_on_disk import contents_under
from tests.round_cluster import CALL_SECONDS, Cluster, eventually, weighted_mean
from tests.scripted_masking_client import LONG, MaskingClient, each, joined, masking_job


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A coordinator that knows no key holder."""
    made = Cluster(directory=tmp_path)
    await made.start_coordinator()
    try:
        yield made
    finally:
        await made.stop()


async def assert_mean(client: MaskingClient, contributors: list[MaskingClient]) -> Result:
    result, mean = await client.result(client.plan)
    assert result.contributors == tuple(one.name for one in contributors)
    assert result.total_weight == pytest.approx(sum(one.weight for one in contributors), abs=0.01)
    expected = weighted_mean([one.update for one in contributors], [one.weight for one in contributors])
    for name, tensor in mean.items():
        assert np.abs(tensor - expected[name]).max() < 1e-4
    return result


async def test_a_whole_round_needs_no_key_holder(cluster: Cluster) -> None:
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares", "upload_all", "confirm", "reveal", "unmask")
    await assert_mean(clients[0], clients)
    status: RoundStatus = await cluster.ended(masking_job(), 1)
    assert status.phase is Phase.PUBLISHED
    assert (status.joined, status.shared, status.uploaded, status.approvals) == (7, 7, 7, 7)
    assert status.holders == ()
    ordered = sorted(status.phase_started, key=status.phase_started.__getitem__)
    assert [phase.value for phase in ordered] == [
        "open",
        "sharing",
        "uploading",
        "confirming",
        "unmasking",
        "published",
    ]
    await eventually(lambda: not cluster.blobs("uploads/*/*/clients"))
    clients[0].tell(UnmaskingAccepted())


async def test_drop_outs_before_shares_and_during_the_upload(cluster: Cluster) -> None:
    spec = masking_job(deadlines=Deadlines(**{**LONG, "sharing_seconds": 3, "uploading_seconds": 5}))
    clients = await joined(cluster, spec)
    silent, slow, honest = clients[0], clients[6], clients[1:6]
    await each(clients[1:], "send_shares")
    with pytest.raises(LateError, match="alice has dropped out of round 1: it did not share its secrets in time"):
        await silent.mask()
    with pytest.raises(LateError, match="dropped out"):
        await silent.send_shares()
    await slow.mask()
    assert await slow.send_vector(stop=100_000) == 100_000
    assert cluster.blobs("uploads/*/*/clients/grace/*")
    await each(honest, "upload_all")
    with pytest.raises(LateError, match="grace has dropped out of round 1: its vector did not arrive in time"):
        await slow.survivors()
    # Thrown away at once, while the round goes on: once its mask key is open the vector would be bare.
    await eventually(lambda: not cluster.blobs("uploads/*/*/clients/grace"))
    with pytest.raises(LateError):
        await slow.send_vector()
    with pytest.raises(LateError):
        await slow.complete_vector()
    await each(honest, "confirm", "reveal", "unmask")
    await assert_mean(honest[0], honest)
    status = await cluster.ended(spec, 1)
    assert (status.joined, status.shared, status.uploaded, status.approvals) == (7, 6, 5, 5)


async def test_wrong_bytes_are_refused_and_the_round_goes_on_without_their_sender(cluster: Cluster) -> None:
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares")
    liar, honest = clients[0], clients[1:]
    await liar.mask()
    await liar.send_vector(vector=bytes([liar.vector[0] ^ 1]) + liar.vector[1:])
    with pytest.raises(FaultyClientError, match="not the one that it signed"):
        await liar.complete_vector()
    assert not cluster.blobs("uploads/*/*/clients/alice")
    with pytest.raises(LateError, match="its vector was refused: its vector is not the one that it signed"):
        await liar.survivors()
    await each(honest, "upload_all", "confirm", "reveal", "unmask")
    await assert_mean(honest[0], honest)


async def test_an_upload_is_resumed_where_it_ended(cluster: Cluster) -> None:
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares", "mask")
    alice = clients[0]
    assert await alice.send_vector(stop=150_000) == 150_000
    with pytest.raises(WrongPhaseError, match="has 150000 of"):
        await alice.complete_vector()
    answer = await alice.ask("GetVectorOffset", pb.GetVectorOffsetRequest(**alice.address()))
    assert (answer.bytes, answer.complete) == (150_000, False)
    with pytest.raises(UsageError):
        await alice.send_vector(start=160_000)
    with pytest.raises(ConflictError):
        await alice.send_vector(vector=bytes(100_000))
    assert await alice.send_vector(start=answer.bytes) == len(alice.vector)
    await alice.complete_vector()
    await alice.complete_vector()
    answer = await alice.ask("GetVectorOffset", pb.GetVectorOffsetRequest(**alice.address()))
    assert answer.complete
    with pytest.raises(UsageError):
        await clients[1].send_vector(vector=clients[1].vector + b"more")


async def test_calls_may_be_repeated_and_never_changed(cluster: Cluster) -> None:
    clients = await joined(cluster, masking_job())
    alice, bob = clients[:2]
    await alice.send_shares("one")
    await alice.send_shares("one")
    await alice.send_shares("two")
    alice.shares = bob.shares
    with pytest.raises(SecAggError, match="bob"):
        await alice.send_shares()
    await each(clients[1:], "send_shares")
    await each(clients, "upload_all", "confirm")
    await alice.send_confirmation()
    await each(clients, "reveal", "unmask")
    await assert_mean(alice, clients)
    await alice.send_confirmation()
    await alice.send_unmasking()
    shown = await alice.confirmations()
    assert not shown.ready
    assert codec.phase_from_wire(shown.standing.phase) is Phase.PUBLISHED


async def test_nothing_that_opens_masks_is_kept(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares", "upload_all", "confirm", "reveal", "unmask")
    await assert_mean(clients[0], clients)
    await eventually(lambda: not cluster.blobs("uploads/*/*"))
    secret = [share for one in clients for share in (*one.shares.sealed, *one.unmasking.shares)]
    kept = b"".join(contents_under(cluster.directory / "coordinator").values())
    logged = "".join(capfd.readouterr())
    assert clients[0].signed(clients[0].confirmation).payload in kept
    for share in secret:
        assert share not in kept
        assert share.hex() not in logged
        assert repr(share) not in logged


async def test_a_lying_share_is_named(cluster: Cluster) -> None:
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares", "upload_all", "confirm", "reveal")
    liar, honest = clients[0], clients[1:]
    own = clients[1].unmasking.shares
    liar.unmasking = type(liar.unmasking)(**{**vars(liar.unmasking), "shares": own[1:] + own[:1]})
    await liar.send_unmasking()
    await each(honest, "unmask")
    await assert_mean(honest[0], clients)
    assert cluster.coordinator is not None
    store = cluster.coordinator._opened.engine.store
    details = {one.event: one.details for one in store.events(JobId("masked"))}
    assert details["round-published"]["faulty_clients"] == "alice"


async def test_the_steps_of_the_other_protocol_are_refused(cluster: Cluster) -> None:
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares")
    request = client_pb.GetUploadOffsetsRequest(**clients[0].address())
    with pytest.raises(UsageError, match="runs masking"):
        await clients[0].call(clients[0].stub.GetUploadOffsets(request, timeout=CALL_SECONDS))
    stranger = MaskingServiceStub(cluster.channel(cluster.identity(Role.OPERATOR, "olga")))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stranger.WaitForShares(pb.WaitForSharesRequest(**clients[0].address()), timeout=CALL_SECONDS)
    assert isinstance(error_from_rpc(caught.value, party="coordinator"), NotAllowedError)


async def test_too_few_sharers_end_the_round_and_the_next_has_another_plan(cluster: Cluster) -> None:
    spec = masking_job(deadlines=Deadlines(**{**LONG, "sharing_seconds": 3}))
    clients = await joined(cluster, spec)
    await each(clients[:3], "send_shares")
    answer = await clients[0].ask("WaitForShares", pb.WaitForSharesRequest(**clients[0].address(wait_seconds=30)))
    assert not answer.ready
    assert codec.phase_from_wire(answer.standing.phase) is Phase.ABORTED
    assert "grace" in answer.standing.reason
    assert answer.standing.need == 5
    request = client_pb.WaitForRoundRequest(job=spec.job, after_round=1, wait_seconds=20)
    following = await clients[0].call(clients[0].stub.WaitForRound(request, timeout=CALL_SECONDS))
    again = codec.round_plan_from_wire(following.plan)
    assert again.digest != clients[0].plan.digest
    # The first round is known from the store only now.
    answer = await clients[0].ask("WaitForShares", pb.WaitForSharesRequest(**clients[0].address(wait_seconds=30)))
    assert codec.phase_from_wire(answer.standing.phase) is Phase.ABORTED
    roster = await clients[0].call(
        clients[0].stub.WaitForRoster(client_pb.WaitForRosterRequest(**clients[0].address()), timeout=CALL_SECONDS)
    )
    assert len(roster.masking_roster.joins) == 7
