"""The SDK goes on wherever it finds a coordinator again: another address, the same request ids, and nothing that is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from he.ciphertext import half_chunk_bytes
from secagg import codec
from secagg.client import AsyncClient, Progress
from secagg.client.calls import Coordinator, Limit
from secagg.client.spool import CiphertextSpool, SpoolFile
from secagg.client.transfer import Uploader, download_mean
from secagg.client.uploads import HalvesUpload
from secagg.coordinators import RECONNECT_OPTIONS, Channels
from secagg.errors import (
    BusyError,
    ConflictError,
    ElsewhereError,
    LateError,
    RoundAbortedError,
    SecAggError,
    StorageError,
    UnknownRoundError,
    UnreachableError,
)
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Half, Phase
from secagg.rpc_errors import PUSHBACK_METADATA_KEY
from secagg.transport import bind_port, open_channel, server_options
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.client_service_pb2_grpc import add_ClientServiceServicer_to_server
from secagg.wire.v1.masking_service_pb2_grpc import add_MaskingServiceServicer_to_server
from secagg.wire.v1.signed_pb2 import Signed
from tests.client_material import POLICY as CKKS_POLICY
from tests.holder_material import job_spec
from tests.masking_material import CLIENTS, POLICY
from tests.scripted_coordinator import PARTY, ScriptedCoordinator, Stage, scripted_coordinator
from tests.scripted_masking import UPDATE, WEIGHT, MaskingPlay
from tests.unit.secagg.test_client_participation import SPEC, Play
from tests.unit.secagg.test_client_participation import UPDATE as CKKS_UPDATE

JOB, ROUND = JobId("digits"), RoundNumber(1)
NOWHERE = "127.0.0.1:1"
FULL_DISK = StorageError("the disk is full")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with scripted_coordinator(tmp_path / "house") as made:
        yield made


@asynccontextmanager
async def beside(stage: Stage, service: ScriptedCoordinator | None = None) -> AsyncIterator[Stage]:
    """Let another coordinator of the same name listen."""
    other = service or ScriptedCoordinator()
    server = grpc.aio.server(options=server_options())
    add_ClientServiceServicer_to_server(other, server)
    add_MaskingServiceServicer_to_server(other, server)
    port = bind_port(server, "127.0.0.1:0", stage.made.identity(PARTY))
    await server.start()
    try:
        yield Stage(other, stage.made, port)
    finally:
        await server.stop(None)


@asynccontextmanager
async def calling(stage: Stage, *addresses: str, silence_seconds: float = 10.0) -> AsyncIterator[Coordinator]:
    channels = Channels(
        addresses, lambda one: open_channel(one, stage.identity, target=PARTY, options=RECONNECT_OPTIONS)
    )
    try:
        yield Coordinator(channels, PARTY, silence_seconds)
    finally:
        await channels.close()


async def join(coordinator: Coordinator, request_id: str = "same") -> Any:
    request = pb.JoinRequest(request_id=request_id)
    return await coordinator.ask(lambda seconds: coordinator.stub.Join(request, timeout=seconds), Limit(30))


# calls


async def test_a_call_goes_on_to_the_next_address(stage: Stage) -> None:
    stage.service.script = {"Join": [pb.JoinResponse()]}
    async with calling(stage, NOWHERE, stage.address) as coordinator:
        assert await join(coordinator) == pb.JoinResponse()
        assert await join(coordinator) == pb.JoinResponse()


async def test_a_machine_that_takes_connections_and_says_nothing_is_left_for_the_next(stage: Stage) -> None:
    stage.service.script = {"Join": [pb.JoinResponse()]}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with calling(stage, address, stage.address) as coordinator, asyncio.timeout(8):
            assert await join(coordinator) == pb.JoinResponse()


async def test_who_runs_the_job_is_called_where_another_says_it_is(stage: Stage) -> None:
    async with beside(stage) as second, beside(stage) as third:
        stage.service.script = {"Join": [ElsewhereError(JOB, third.address)]}
        second.service.script = {"Join": [LateError("never asked")]}
        third.service.script = {"Join": [pb.JoinResponse()]}
        async with calling(stage, stage.address, second.address, third.address) as coordinator:
            assert await join(coordinator) == pb.JoinResponse()
        assert second.service.seen == []
        assert [one.request_id for one in (*stage.service.seen, *third.service.seen)] == ["same", "same"]


async def test_a_coordinator_cannot_send_a_client_to_an_address_of_its_choice(stage: Stage) -> None:
    async with beside(stage) as stranger:
        stage.service.script = {"Join": [ElsewhereError(JOB, stranger.address)]}
        async with calling(stage, stage.address, silence_seconds=1.0) as coordinator:
            with pytest.raises(ElsewhereError, match="another coordinator"):
                await join(coordinator)
        assert stranger.service.seen == []
        assert len(stage.service.seen) > 1


async def test_coordinators_that_send_a_client_to_and_fro_are_given_up(stage: Stage) -> None:
    async with beside(stage) as second:
        stage.service.script = {"Join": [ElsewhereError(JOB, second.address)]}
        second.service.script = {"Join": [ElsewhereError(JOB, stage.address)]}
        async with calling(stage, stage.address, second.address, silence_seconds=1.0) as coordinator:
            with pytest.raises(ElsewhereError):
                await join(coordinator)
        assert 2 <= len(stage.service.seen) + len(second.service.seen) < 12


async def test_a_hint_reaches_the_client_and_every_other_grpc_client(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.service.script = {"Join": [BusyError("full", retry_after_seconds=17)]}
    async with calling(stage, stage.address) as coordinator:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await coordinator.stub.Join(pb.JoinRequest(), timeout=10)
        trailing = dict(raised.value.trailing_metadata() or ())
        assert trailing[PUSHBACK_METADATA_KEY] == "17000"
        stage.service.script = {"Join": [BusyError("full", retry_after_seconds=17), pb.JoinResponse()]}
        slept = []
        original = asyncio.sleep

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await original(0)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        assert await join(coordinator) == pb.JoinResponse()
        assert 17 <= max(slept) <= 22


# transfers


def upload_job(coordinator: Coordinator, spool: CiphertextSpool) -> HalvesUpload:
    parameters = job_spec(values=120_000).parameters(3)
    for half in Half:
        spool.append(half, bytes(parameters.chunks * half_chunk_bytes(parameters)))
    signed = Signed(payload=b"signed")
    return HalvesUpload(
        coordinator=coordinator, job=JOB, round=ROUND, signed=signed, parameters=parameters, spool=spool
    )


async def test_an_upload_goes_on_at_the_offset_of_another_coordinator(stage: Stage, tmp_path: Path) -> None:
    async with beside(stage) as second, calling(stage, stage.address, second.address) as coordinator:
        with CiphertextSpool(tmp_path / "spool") as spool:
            job = upload_job(coordinator, spool)
            stage.service.break_after_messages = [4]
            stage.service.script = {"GetUploadOffsets": [LateError("never asked")]}
            second.service.script = {
                "GetUploadOffsets": [pb.GetUploadOffsetsResponse(c0_bytes=7 * 49152)],
                "UploadHalves": [pb.UploadHalvesResponse(c0_bytes=job.sizes[0], c1_bytes=job.sizes[1])],
                "CompleteUpload": [pb.CompleteUploadResponse()],
            }
            await Uploader(coordinator, job, lambda _: None).run(Limit(30))
    (first,), (going_on,) = stage.service.uploads, second.service.uploads
    assert going_on[1].part.offset == 7 * 49152
    assert going_on[0] == first[0]


@pytest.mark.parametrize("error", [FULL_DISK, BusyError("full"), ElsewhereError(JOB)])
async def test_an_upload_outlasts_what_may_be_over_soon(stage: Stage, tmp_path: Path, error: SecAggError) -> None:
    async with calling(stage, stage.address) as coordinator:
        with CiphertextSpool(tmp_path / "spool") as spool:
            job = upload_job(coordinator, spool)
            arrived = pb.UploadHalvesResponse(c0_bytes=job.sizes[0], c1_bytes=job.sizes[1])
            stage.service.script = {
                "UploadHalves": [error, error, arrived],
                "GetUploadOffsets": [error, pb.GetUploadOffsetsResponse()],
                "CompleteUpload": [error, error, pb.CompleteUploadResponse()],
            }
            await Uploader(coordinator, job, lambda _: None).run(Limit(30))
    completions = stage.service.sent(pb.CompleteUploadRequest)
    assert len({one.request_id for one in completions}) == 1
    assert len(completions) == 3


async def test_the_own_disk_that_cannot_be_read_is_not_waited_for(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise StorageError("the own disk cannot be read")

    async with calling(stage, stage.address) as coordinator:
        with CiphertextSpool(tmp_path / "spool") as spool:
            job = upload_job(coordinator, spool)
            monkeypatch.setattr(SpoolFile, "read", fail)
            stage.service.script = {"UploadHalves": [pb.UploadHalvesResponse()]}
            async with asyncio.timeout(5):
                with pytest.raises(StorageError, match="own disk"):
                    await Uploader(coordinator, job, lambda _: None).run(Limit(30))


async def test_a_download_goes_on_at_another_coordinator(stage: Stage) -> None:
    broken = UnreachableError("wire")
    async with beside(stage) as second, calling(stage, stage.address, second.address) as coordinator:
        stage.service.script = {"DownloadMean": [[b"abc", broken]]}
        second.service.script = {"DownloadMean": [[b"def"]]}
        assert await download_mean(coordinator, JOB, ROUND, 6, Limit(30)) == b"abcdef"
    assert [request.offset for request in (*stage.service.seen, *second.service.seen)] == [0, 3]


# a masking round


def failing_first(play: MaskingPlay, error: SecAggError) -> None:
    """Let every unary call of the round be carried out, and its answer be lost, the first time."""
    script = play.stage.service.script

    def lost(act: Any) -> Any:
        def answer(request: Any) -> Any:
            act(request)
            return error

        return answer

    for method in ("Join", "SendShares", "CompleteVector", "Confirm", "Unmask"):
        (act,) = script[method]
        script[method] = [lost(act), lambda _, method=method: play.answers[method]]


async def test_a_call_whose_answer_was_lost_is_the_same_call_again(stage: Stage) -> None:
    """A coordinator that keeps the first answer by the request id gives it again; another id would be another request."""
    play = MaskingPlay(stage)
    failing_first(play, UnreachableError("coordinator", "killed"))
    arguments: dict[str, Any] = {"coordinator": PARTY.name, "identity": stage.identity, "policy": POLICY}
    async with AsyncClient(stage.address, **arguments) as client:
        result = await client.participate(play.plan.spec.job, UPDATE, WEIGHT)
    assert result.contributors == CLIENTS
    kinds = {type(one) for one in stage.service.seen if hasattr(one, "request_id")}
    assert len(kinds) == 5
    for kind in kinds:
        first, second = stage.service.sent(kind)
        assert first == second, kind


async def test_a_round_over_coordinators_that_take_turns(stage: Stage) -> None:
    """Each answers one call and then says that the other runs the job."""
    play = MaskingPlay(stage)
    async with beside(stage, stage.service) as second:
        addresses = [stage.address, second.address]
        script = stage.service.script
        for method, acts in list(script.items()):
            if method not in ("UploadVector", "DownloadMean"):
                script[method] = [ElsewhereError(JOB), *acts]
        async with AsyncClient(
            [NOWHERE, *addresses], coordinator=PARTY.name, identity=stage.identity, policy=POLICY
        ) as client:
            result = await client.participate(play.plan.spec.job, UPDATE, WEIGHT)
    assert result.contributors == CLIENTS


@pytest.mark.parametrize(
    "error", [ElsewhereError(JOB), BusyError("full"), FULL_DISK, UnreachableError("coordinator")], ids=str
)
async def test_a_round_that_may_go_on_is_kept_for_the_next_process(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: SecAggError
) -> None:
    play, state = MaskingPlay(stage), tmp_path / "state"
    honest = stage.service.script["CompleteVector"]
    # The round's own time is over soon; for a busy coordinator that alone ends it.
    monkeypatch.setattr("secagg.client.masking_steps.stretched", lambda *_: Limit(3.0))
    with pytest.raises(type(error)):
        await play.perform(state_dir=state, CompleteVector=[error])
    assert (state / "digits.journal").exists()
    stage.service.vectors.clear()
    assert (await play.perform(state_dir=state, CompleteVector=honest)).resumed


async def test_an_error_that_ends_a_round_leaves_nothing(stage: Stage, tmp_path: Path) -> None:
    play, state = MaskingPlay(stage), tmp_path / "state"
    aborted = pb.WaitForResultResponse(phase=codec.phase_to_wire(Phase.ABORTED), reason="bob vanished")
    with pytest.raises(RoundAbortedError):
        await play.perform(state_dir=state, CompleteVector=[LateError("it is over")], WaitForResult=[aborted])
    assert list(state.iterdir()) == []


# a process that died without a trace


async def test_a_round_that_an_earlier_process_joined_is_left_for_a_later_one(stage: Stage) -> None:
    """What that process committed to is lost: this one commits to nothing else in that round, and says what it waits for."""
    play = Play(stage)
    told: list[Progress] = []
    stage.service.script.update(
        {
            "Join": [ConflictError("client alice has joined with another commitment")],
            "WaitForRound": [play.offered(), pb.WaitForRoundResponse()],
        }
    )
    arguments: dict[str, Any] = {"coordinator": PARTY.name, "identity": stage.identity, "policy": CKKS_POLICY}
    async with AsyncClient(stage.address, **arguments) as client:
        with pytest.raises(UnknownRoundError, match="round 1 was joined before, by a process of this client"):
            await client.participate(SPEC.job, CKKS_UPDATE, 1.0, progress=told.append, join_timeout_seconds=3.0)
    assert len(stage.service.sent(pb.JoinRequest)) == 1
    assert [one.after_round for one in stage.service.sent(pb.WaitForRoundRequest)][:2] == [0, 1]
    (noted,) = [one for one in told if one.note]
    assert (noted.round, noted.done, noted.total) == (0, 0, 0)
    assert "round 1 was joined before" in noted.note
