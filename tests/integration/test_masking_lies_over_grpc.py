"""Masking rounds over gRPC with mutual TLS, where somebody lies: the coordinator to a client of the SDK, or a caller about who it is.

Each lie of a coordinator ends alice's part with its name, and alice sends nothing after she saw it (docs/protocol.md, 10.2 to 10.7).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message_factory import GetMessageClass

from secagg import codec, transcript
from secagg.errors import FaultyCoordinatorError, LateError, NotAllowedError
from secagg.identity import Party, Role
from secagg.messages.masking import Confirmation
from secagg.transport import error_from_rpc
from secagg.wire.v1 import client_service_pb2 as client_pb
from secagg.wire.v1 import masking_pb2
from secagg.wire.v1 import masking_service_pb2 as pb
from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceStub
from tests.masking_lies import LIES, WITHOUT_GRACE, of_set, places
from tests.masking_material import ALICE, BOB, CLIENTS, FRANK, finished
from tests.pki_material import deployment
from tests.round_cluster import CALL_SECONDS, Cluster
from tests.scripted_coordinator import Stage, scripted_coordinator
from tests.scripted_masking import OTHERS, MaskingPlay
from tests.scripted_masking_client import each, joined, masking_job


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with scripted_coordinator(tmp_path / "house") as made:
        yield made


@pytest.fixture
def play(stage: Stage) -> MaskingPlay:
    return MaskingPlay(stage)


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_ends_the_part_of_an_honest_client_who_sends_nothing_more(
    play: MaskingPlay, tmp_path: Path, name: str
) -> None:
    lie, service = LIES[name], play.stage.service
    honest, told = service.script[lie.method][0], []

    def answer(request: Any) -> Any:
        made = honest(request)
        lie.bend(play, made)
        told.append(len(service.seen))
        return made

    options = {} if lie.policy is None else {"policy": lie.policy}
    with pytest.raises(lie.kind, match=lie.why) as raised:
        await play.perform(state_dir=tmp_path / "state", **{lie.method: [answer]}, **options)
    assert type(raised.value) is lie.kind
    assert len(told) == 1
    # To hold a mean against its digest, it must be downloaded.
    after = [one for one in service.seen[told[0] :] if not isinstance(one, client_pb.DownloadMeanRequest)]
    assert after == []
    assert list((tmp_path / "state").iterdir()) == []


async def test_survivors_that_differ_are_confirmed_and_nothing_is_revealed(play: MaskingPlay) -> None:
    """Alice is shown six survivors, all others seven: grace's vector would be the difference of two sums."""

    def six(request: Any) -> pb.WaitForSurvivorsResponse:
        made = honest(request)
        made.survivors[:] = places(WITHOUT_GRACE)
        return made

    honest = play.stage.service.script["WaitForSurvivors"][0]

    def confirmed_by_others(_: Any) -> pb.WaitForConfirmationsResponse:
        shown = of_set(play, CLIENTS, CLIENTS)
        return pb.WaitForConfirmationsResponse(standing=play._standing, ready=True, confirmations=shown)

    with pytest.raises(FaultyCoordinatorError, match="another plan, roster or set"):
        await play.perform(
            WaitForSurvivors=[six], Confirm=[pb.ConfirmResponse()], WaitForConfirmations=[confirmed_by_others]
        )
    (sent,) = play.stage.service.sent(pb.ConfirmRequest)
    shown = codec.authenticate(
        codec.signed_from_wire(sent.confirmation), Confirmation, trust=play.stage.identity.trust, at=play.stage.made.at
    )
    known = transcript.sharers_digest(play.round.state.frozen_digest, CLIENTS)
    assert shown.message.survivors_digest == transcript.survivors_digest(known, WITHOUT_GRACE)
    assert play.payloads()["Unmask"] == set()


async def test_shares_replayed_from_another_round_are_not_opened_and_never_revealed(play: MaskingPlay) -> None:
    """Bob and frank have the very same keys in both rounds, and alice has others: what they sealed then opens nothing now."""
    earlier = finished()
    replayed = {place: earlier.state.sealed_to(ALICE)[CLIENTS[place]] for place in places((BOB, FRANK))}

    def bend(request: Any) -> pb.WaitForSharesResponse:
        made = honest(request)
        for one in made.sealed:
            one.sealed = replayed.get(one.sender, one.sealed)
        return made

    honest = play.stage.service.script["WaitForShares"][0]
    result = await play.perform(WaitForShares=[bend])
    assert result.contributors == CLIENTS
    (sent,) = play.stage.service.sent(pb.UnmaskRequest)
    shares = masking_pb2.Unmasking.FromString(sent.unmasking.payload).shares
    assert [client for client, share in zip(OTHERS, shares, strict=True) if not share] == [BOB, FRANK]


# who calls


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A coordinator that knows no key holder."""
    made = Cluster(directory=tmp_path)
    await made.start_coordinator()
    try:
        yield made
    finally:
        await made.stop()


METHODS = pb.DESCRIPTOR.services_by_name["MaskingService"].methods


async def answer_to(stub: MaskingServiceStub, method: Any) -> Any:
    """Call a method about round 1 of the job, with nothing else in the request."""
    kind = GetMessageClass(method.input_type)
    fields = {"job": "masked", "round": 1, "request_id": "stranger"}
    request = kind(**{name: value for name, value in fields.items() if name in method.input_type.fields_by_name})
    if not method.client_streaming:
        return await getattr(stub, method.name)(request, timeout=CALL_SECONDS)
    request.header.MergeFrom(pb.VectorHeader(**fields))

    async def stream() -> AsyncIterator[Any]:
        yield request

    return await getattr(stub, method.name)(stream(), timeout=CALL_SECONDS)


async def test_only_clients_of_this_authority_get_an_answer(cluster: Cluster, tmp_path: Path) -> None:
    """Every method, while there are shares to be had; the round goes on as if nobody had asked."""
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares")
    foreign = deployment(tmp_path / "foreign").identity(Party(role=Role.CLIENT, name="alice"))
    own = clients[0].identity
    strangers = {
        "an operator": (cluster.identity(Role.OPERATOR, "olga"), grpc.StatusCode.PERMISSION_DENIED),
        "an auditor": (cluster.identity(Role.AUDITOR, "ada"), grpc.StatusCode.PERMISSION_DENIED),
        "a key holder": (cluster.identity(Role.KEY_HOLDER, "north"), grpc.StatusCode.PERMISSION_DENIED),
        "alice of another authority": (replace(foreign, authority_pem=own.authority_pem), grpc.StatusCode.UNAVAILABLE),
    }
    for who, (stranger, code) in strangers.items():
        stub = MaskingServiceStub(cluster.channel(stranger))
        for method in METHODS:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answer_to(stub, method)
            assert caught.value.code() is code, (who, method.name)
            if code is grpc.StatusCode.PERMISSION_DENIED:
                assert isinstance(error_from_rpc(caught.value, party="coordinator"), NotAllowedError)
    await each(clients, "upload_all", "confirm", "reveal", "unmask")
    result, _ = await clients[0].result(clients[0].plan)
    assert result.contributors == tuple(one.name for one in clients)


async def test_a_client_that_is_not_in_the_roster_learns_nothing_of_the_round(cluster: Cluster) -> None:
    clients = await joined(cluster, masking_job())
    await each(clients, "send_shares")
    stub = MaskingServiceStub(cluster.channel(cluster.identity(Role.CLIENT, "mallory")))
    for kind in ("Shares", "Survivors", "Confirmations"):
        request = getattr(pb, f"WaitFor{kind}Request")(**clients[0].address())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub, f"WaitFor{kind}")(request, timeout=CALL_SECONDS)
        assert isinstance(error_from_rpc(caught.value, party="coordinator"), LateError)
