"""One client holds no place for longer than its round asks for, and no more calls than one client needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from coordinator import upload_streams
from coordinator.contracts import Limits
from coordinator.rounds.changes import CALLS_PER_CALLER, Changes, WaitingRoom
from secagg.errors import BusyError, LateError, UsageError
from secagg.messages.round import Phase
from secagg.plan import Deadlines
from secagg.wire.v1 import masking_service_pb2 as pb
from tests.round_cluster import CALL_SECONDS, Cluster
from tests.scripted_masking_client import LONG, MaskingClient, each, joined, masking_job


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(directory=tmp_path)
    await made.start_coordinator()
    try:
        yield made
    finally:
        await made.stop()


def silent_stream(client: MaskingClient, message: pb.UploadVectorRequest | None) -> asyncio.Task[None]:
    """Begin an upload that says one thing, or nothing, and never ends of itself."""

    async def stream() -> None:
        call = client.masking.UploadVector()
        try:
            if message is not None:
                await call.write(message)
            await client.call(call)
        finally:
            call.cancel()

    return asyncio.create_task(stream())


async def test_a_silent_upload_is_ended_with_its_phase(cluster: Cluster) -> None:
    """Its place is free again: kept over many rounds, such places would be all there are."""
    clients = await joined(cluster, masking_job(deadlines=Deadlines(**{**LONG, "uploading_seconds": 4})))
    await each(clients, "send_shares")
    silent, others = clients[0], clients[1:]
    await silent.mask()
    signed = silent.signed(silent.upload_statement)
    header = pb.VectorHeader(**silent.address(request_id=uuid4().hex), upload=signed)
    task = silent_stream(silent, pb.UploadVectorRequest(header=header))
    await each(others, "upload_all")
    with pytest.raises(LateError, match="the uploads of round 1 are closed"):
        async with asyncio.timeout(CALL_SECONDS):
            await task
    assert cluster.coordinator is not None
    engine = cluster.coordinator._engine
    live = await engine.live_round(silent.plan.spec.job, silent.plan.round)
    assert live is not None
    assert live.state.phase is Phase.CONFIRMING
    assert not engine.desk._running


async def test_an_upload_without_a_header_is_ended(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_streams, "HEADER_SECONDS", 0.2)
    (client, *_) = await joined(cluster, masking_job())
    with pytest.raises(UsageError, match="without a header"):
        async with asyncio.timeout(CALL_SECONDS):
            await silent_stream(client, None)


async def test_one_client_cannot_hold_every_call_that_may_wait() -> None:
    room, changes = WaitingRoom(Limits(waiting_calls=CALLS_PER_CALLER + 1)), Changes()
    waiters = [
        asyncio.create_task(room.wait_until(changes, lambda: False, 20, caller="client/alice"))
        for _ in range(CALLS_PER_CALLER)
    ]
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match="client/alice"):
        await room.wait_until(changes, lambda: False, 20, caller="client/alice")
    with room.place("client/bob"):
        pass
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    with room.place("client/alice"):
        pass
