"""The SDK's driver: transfers, patience, spool, and answers that only a faulty coordinator gives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from he.ciphertext import half_chunk_bytes
from secagg import codec
from secagg.client import AsyncClient, Client, Progress
from secagg.client.calls import Coordinator, Limit, reading_answer
from secagg.client.spool import CiphertextSpool
from secagg.client.threads import in_thread
from secagg.client.transfer import Uploader, download_mean
from secagg.client.uploads import HalvesUpload
from secagg.errors import (
    BusyError,
    FaultyCoordinatorError,
    MessageError,
    StorageError,
    UnreachableError,
    UsageError,
)
from secagg.ids import HolderId, JobId, RoundNumber
from secagg.messages.round import Half
from secagg.policy import ClientPolicy
from secagg.tls_identity import TlsIdentity
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.signed_pb2 import Signed
from tests.client_material import plan
from tests.holder_material import job_spec
from tests.pki_material import OPERATOR
from tests.scripted_coordinator import PARTY, Stage, calling, scripted_coordinator

JOB, ROUND = JobId("digits"), RoundNumber(1)
POLICY = ClientPolicy(holders=frozenset({HolderId("north")}))


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with scripted_coordinator(tmp_path) as made:
        yield made


@pytest.fixture
async def coordinator(stage: Stage) -> AsyncIterator[Coordinator]:
    async with calling(stage) as made:
        yield made


# the spool


def test_a_spool_has_no_file_that_a_name_leads_to(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "spool"
    with CiphertextSpool(directory) as spool:
        spool.append(Half.C0, b"abc")
        spool.append(Half.C1, b"xyz")
        spool.append(Half.C0, b"def")
        assert spool.read(Half.C0, 2, 3) == b"cde"
        assert spool.read(Half.C1, 0, 100) == b"xyz"
        assert list(directory.iterdir()) == []
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_spool_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file.*spool_dir"):
        CiphertextSpool(tmp_path / "file")


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    with CiphertextSpool(tmp_path) as spool:
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, spool._files[Half.C0].fileno())
        os.close(full)
        with pytest.raises(StorageError, match="No space left"):
            spool.append(Half.C0, b"abc")


async def test_a_cancelled_caller_waits_for_the_thread_that_works_for_it() -> None:
    began, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        release.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


# uploads


def upload_job(coordinator: Coordinator, spool: CiphertextSpool) -> tuple[HalvesUpload, dict[Half, bytes]]:
    parameters = job_spec(values=120_000).parameters(3)
    size = parameters.chunks * half_chunk_bytes(parameters)
    content = {half: hashlib.shake_128(half.value.encode()).digest(size) for half in Half}
    for half in Half:
        spool.append(half, content[half])
    job = HalvesUpload(
        coordinator=coordinator,
        job=JOB,
        round=ROUND,
        signed=Signed(payload=b"signed"),
        parameters=parameters,
        spool=spool,
    )
    return job, content


def parts_of(stream: list[pb.UploadHalvesRequest]) -> list[pb.UploadPart]:
    return [message.part for message in stream[1:]]


async def test_an_upload_travels_in_whole_chunks_of_at_most_a_mebibyte(
    stage: Stage, coordinator: Coordinator, tmp_path: Path
) -> None:
    with CiphertextSpool(tmp_path / "spool") as spool:
        job, content = upload_job(coordinator, spool)
        size = job.sizes[0]
        stage.service.script = {
            "UploadHalves": [pb.UploadHalvesResponse(c0_bytes=size, c1_bytes=size)],
            "CompleteUpload": [pb.CompleteUploadResponse()],
        }
        told: list[int] = []
        await Uploader(coordinator, job, told.append).run(Limit(30))
    (stream,) = stage.service.uploads
    assert stream[0].header.upload.payload == b"signed"
    arrived = dict.fromkeys(Half, b"")
    for part in parts_of(stream):
        half = codec.half_from_wire(part.half)
        assert len(part.data) <= 1024 * 1024
        assert len(part.data) % 49152 == 0
        assert part.offset == len(arrived[half])
        assert part.digest == hashlib.sha256(part.data).digest()
        arrived[half] += part.data
    assert arrived == content
    assert told == sorted(told)
    assert told[-1] == 2 * size


async def test_a_broken_upload_asks_where_to_go_on_and_stays_the_same_request(
    stage: Stage, coordinator: Coordinator, tmp_path: Path
) -> None:
    with CiphertextSpool(tmp_path / "spool") as spool:
        job, content = upload_job(coordinator, spool)
        size, arrived = job.sizes[0], 5 * 49152 + 17
        stage.service.break_after_messages = [3]
        stage.service.script = {
            "GetUploadOffsets": [pb.GetUploadOffsetsResponse(c0_bytes=arrived)],
            "UploadHalves": [pb.UploadHalvesResponse(c0_bytes=size, c1_bytes=size)],
            "CompleteUpload": [BusyError("full"), pb.CompleteUploadResponse()],
        }
        await Uploader(coordinator, job, lambda _: None).run(Limit(30))
    first, second = stage.service.uploads
    assert first[0] == second[0]
    resumed = parts_of(second)[0]
    # The chunk of which 17 bytes had arrived is sent again as a whole.
    assert resumed.offset == 5 * 49152
    assert resumed.data == content[Half.C0][5 * 49152 :][: len(resumed.data)]
    completions = [one for one in stage.service.seen if isinstance(one, pb.CompleteUploadRequest)]
    assert completions[0] == completions[1]
    assert completions[0].request_id != first[0].header.request_id


async def test_an_upload_that_had_arrived_is_only_completed(
    stage: Stage, coordinator: Coordinator, tmp_path: Path
) -> None:
    with CiphertextSpool(tmp_path / "spool") as spool:
        job, _ = upload_job(coordinator, spool)
        stage.service.break_after_messages = [2]
        stage.service.script = {
            "GetUploadOffsets": [pb.GetUploadOffsetsResponse(complete=True)],
            "CompleteUpload": [pb.CompleteUploadResponse()],
        }
        await Uploader(coordinator, job, lambda _: None).run(Limit(30))
    assert len(stage.service.uploads) == 1


async def test_more_bytes_than_there_are_cannot_have_arrived(
    stage: Stage, coordinator: Coordinator, tmp_path: Path
) -> None:
    with CiphertextSpool(tmp_path / "spool") as spool:
        job, _ = upload_job(coordinator, spool)
        answer = pb.UploadHalvesResponse(c0_bytes=job.sizes[0] + 1, c1_bytes=job.sizes[0])
        stage.service.script = {"UploadHalves": [answer]}
        with pytest.raises(FaultyCoordinatorError, match="more than the"):
            await Uploader(coordinator, job, lambda _: None).run(Limit(30))


async def test_an_upload_ends_with_its_limit(stage: Stage, coordinator: Coordinator, tmp_path: Path) -> None:
    with CiphertextSpool(tmp_path / "spool") as spool:
        job, _ = upload_job(coordinator, spool)
        stage.service.script = {"UploadHalves": [BusyError("too many uploads run")]}
        stage.service.script["GetUploadOffsets"] = [pb.GetUploadOffsetsResponse()]
        with pytest.raises(BusyError):
            await Uploader(coordinator, job, lambda _: None).run(Limit(1.0))
    assert len(stage.service.uploads) >= 2


async def test_what_a_listener_raises_ends_the_upload(stage: Stage, coordinator: Coordinator, tmp_path: Path) -> None:
    class OwnError(Exception):
        pass

    def tell(_: int) -> None:
        raise OwnError

    with CiphertextSpool(tmp_path / "spool") as spool:
        job, _ = upload_job(coordinator, spool)
        stage.service.script = {"UploadHalves": [pb.UploadHalvesResponse()]}
        with pytest.raises(OwnError):
            await Uploader(coordinator, job, tell).run(Limit(30))


# downloads


async def test_a_broken_download_goes_on_where_it_broke(stage: Stage, coordinator: Coordinator) -> None:
    broken = UnreachableError("wire")
    stage.service.script = {"DownloadMean": [[b"abc", broken], [broken], [b"def"]]}
    assert await download_mean(coordinator, JOB, ROUND, 6, Limit(30)) == b"abcdef"
    assert [request.offset for request in stage.service.seen] == [0, 3, 3]


async def test_a_download_is_never_longer_than_the_mean(stage: Stage, coordinator: Coordinator) -> None:
    stage.service.script = {"DownloadMean": [[b"abc"] * 1000]}
    with pytest.raises(FaultyCoordinatorError, match="more than the 7 bytes"):
        await download_mean(coordinator, JOB, ROUND, 7, Limit(30))


# calls


async def test_a_busy_coordinator_is_asked_again(stage: Stage, coordinator: Coordinator) -> None:
    stage.service.script = {"Join": [BusyError("full"), BusyError("full"), pb.JoinResponse()]}
    request = pb.JoinRequest(request_id="same")
    answer = await coordinator.ask(lambda seconds: coordinator.stub.Join(request, timeout=seconds), Limit(30))
    assert answer == pb.JoinResponse()
    assert [one.request_id for one in stage.service.seen] == ["same"] * 3


async def test_a_refusal_is_not_asked_again(stage: Stage, coordinator: Coordinator) -> None:
    stage.service.script = {"Join": [UsageError("no")]}
    with pytest.raises(UsageError, match="no"):
        await coordinator.ask(lambda seconds: coordinator.stub.Join(pb.JoinRequest(), timeout=seconds), Limit(30))
    assert len(stage.service.seen) == 1


def test_what_cannot_be_read_is_the_coordinators_fault() -> None:
    with pytest.raises(FaultyCoordinatorError, match="not well formed"), reading_answer():
        raise MessageError("a roster is not well formed")


# the client


def a_client(stage: Stage, kind: type[Any] = AsyncClient, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"coordinator": PARTY.name, "identity": stage.identity, "policy": POLICY, **changes}
    return kind(stage.address, **arguments)


async def test_only_a_clients_certificate_makes_a_client(stage: Stage) -> None:
    with pytest.raises(UsageError, match="operator/olga is no client"):
        a_client(stage, identity=stage.made.identity(OPERATOR))


async def test_an_offer_that_cannot_be_read(stage: Stage) -> None:
    stage.service.script = {"WaitForRound": [pb.WaitForRoundResponse(found=True)]}
    async with a_client(stage) as client:
        with pytest.raises(FaultyCoordinatorError, match="its answer is refused"):
            await client.participate(JOB, {}, 1.0)


async def test_a_plan_without_its_key_is_no_offer(stage: Stage) -> None:
    wire = codec.round_plan_to_wire(plan())
    stage.service.script = {"WaitForRound": [pb.WaitForRoundResponse(found=True, plan=wire)]}
    async with a_client(stage) as client:
        with pytest.raises(FaultyCoordinatorError):
            await client.participate(JOB, {}, 1.0)


def test_ctrl_c_ends_a_blocking_call_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    """The signal arrives in the thread that called; the work runs in another one."""
    ready, over = threading.Event(), threading.Event()
    stages: list[Stage] = []

    async def serve() -> None:
        async with scripted_coordinator(tmp_path) as stage:
            stage.service.script = {"WaitForRound": [pb.WaitForRoundResponse(found=False)]}
            stages.append(stage)
            ready.set()
            await asyncio.to_thread(over.wait, 60)

    server = threading.Thread(target=asyncio.run, args=(serve(),))
    server.start()
    try:
        assert ready.wait(30)
        main = threading.get_ident()

        def tell(_: Progress) -> None:
            signal.pthread_kill(main, signal.SIGINT)

        with a_client(stages[0], Client) as client:
            with pytest.raises(KeyboardInterrupt):
                client.participate(JOB, {}, 1.0, progress=tell)
            client.close()
            client.close()
            with pytest.raises(UsageError, match="is closed"):
                client.participate(JOB, {}, 1.0)
    finally:
        over.set()
        server.join()


async def test_a_configuration_makes_a_client(stage: Stage, tmp_path: Path) -> None:
    identity: TlsIdentity = stage.identity
    file = tmp_path / "client.toml"
    file.write_text(
        f'identity = "{identity.paths.certificate.parent}"\n[coordinator]\naddress = "{stage.address}"\nname = "main"\n'
        '[policy]\nholders = ["north"]\n'
    )
    stage.service.script = {"WaitForRound": [pb.WaitForRoundResponse(job_complete=True)]}
    async with AsyncClient.from_config(file) as client:
        with pytest.raises(UsageError, match="has published all its rounds"):
            await client.participate(JOB, {}, 1.0)
    with Client.from_config(file) as blocking, pytest.raises(UsageError, match="has published all its rounds"):
        await asyncio.to_thread(blocking.participate, JOB, {}, 1.0)
