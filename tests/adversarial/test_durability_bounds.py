"""What one client can cost the others: rows that outlive its calls, and threads that everything else waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import create_engine, func, select

from coordinator.rounds.changes import CALLS_PER_CALLER
from coordinator.rounds.masking_chores import MaskingChores
from coordinator.store.tables import REQUESTS
from secagg.access import _caller
from secagg.client.calls import Limit
from secagg.client.transfer import Offsets, Uploader
from secagg.coordinators import Patience
from secagg.errors import SecAggError
from secagg.ids import JobId
from secagg.messages.round import Phase
from secagg.roles.coordinator.state import RoundState
from secagg.wire.v1 import client_service_pb2
from secagg.wire.v1 import masking_service_pb2 as pb
from tests.masking_material import ALICE, ROUND, SPEC, STRANGER
from tests.pki_material import COORDINATOR, NOW
from tests.simulation.masking.parties import party
from tests.unit.coordinator.durable_engine import WHOLE, Deployment, run

_CALLS = 300
_MOST_ROWS = 64
"""Many more than an honest client of one round has, whatever it has to repeat."""
_QUICKLY_SECONDS = 3.0


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    made.close()


def rows(deployed: Deployment) -> int:
    engine = create_engine(f"sqlite:///{deployed.directory / 'rounds.db'}")
    with engine.connect() as connection:
        found = connection.execute(select(func.count()).select_from(REQUESTS)).scalar_one()
    engine.dispose()
    return int(found)


@pytest.mark.parametrize(
    ("what", "why"),
    [("join", "it joined long ago"), ("vector", "nobody uploads yet")],
)
def test_one_client_fills_no_table_with_calls_that_change_nothing(deployed: Deployment, what: str, why: str) -> None:
    """Each under another request id; answers are kept for a week, and disk space is everybody's."""

    async def work() -> None:
        await deployed.start()
        for number in range(_CALLS):
            with suppress(SecAggError):
                await deployed.call(ALICE, what, request_id=f"{what}-{number}")
        await deployed.engine.stop(0.0)

    run(work)
    assert rows(deployed) <= _MOST_ROWS, why


def test_a_lost_lease_costs_no_other_job_its_own(deployed: Deployment) -> None:
    """What the round of one job still computes is waited for; the leases of the others are renewed meanwhile."""
    other, renewed = replace(SPEC, job=JobId("letters")), list[float]()
    deployed.store.create_job(other, NOW.timestamp())

    def noted(name: str, args: tuple[Any, ...]) -> str:
        if name == "take_lease" and args[0] == other.job:
            renewed.append(asyncio.get_running_loop().time())
        return ""

    async def work() -> None:
        live = await deployed.start()
        assert live is not None
        computing = asyncio.get_running_loop().create_future()
        live.chores._computing.add(computing)
        store, loop = deployed.store.store, asyncio.get_running_loop()
        store.give_back(deployed.engine._runs[SPEC.job].lease)
        store.take_lease(SPEC.job, "second", 1e6)
        deployed.store.fails = noted
        loop.call_later(120.0, computing.set_result, None)
        await asyncio.sleep(110.0)
        gaps = [later - earlier for earlier, later in pairwise([*renewed, loop.time()])]
        await asyncio.sleep(20.0)
        await deployed.engine.stop(0.0)
        assert live.suspended
        assert max(gaps, default=110.0) < deployed.engine.leases.seconds

    run(work)


def test_what_is_never_let_go_of_holds_a_job_up_and_no_call(deployed: Deployment) -> None:
    """A disk that hangs keeps the threads of a lost round; whoever asks whether its job may be run is told, in time."""

    async def work() -> None:
        await deployed.start()
        job, engine = deployed.engine._runs[SPEC.job], deployed.engine
        hung = asyncio.ensure_future(asyncio.sleep(1e6))
        job.letting_go.add(cast("Any", hung))
        async with asyncio.timeout(engine.leases.seconds):
            assert not await engine._taken(job)
        job.letting_go.clear()
        hung.cancel()
        assert await engine._taken(job)
        await engine.stop(0.0)

    run(work)


def test_a_lease_is_renewed_while_what_it_is_for_is_read_back_at_a_start(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand uploads on disk are read for minutes; who loses the lease meanwhile begins again, and so does the next one."""
    recall, renewed = MaskingChores.recall, list[float]()

    async def slow(chores: MaskingChores, state: RoundState) -> None:
        await asyncio.sleep(60.0)
        await recall(chores, state)

    def noted(name: str, _args: tuple[Any, ...]) -> str:
        if name == "take_lease":
            renewed.append(asyncio.get_running_loop().time())
        return ""

    async def work() -> None:
        await deployed.start()
        await deployed.engine.stop(0.0)
        monkeypatch.setattr(MaskingChores, "recall", slow)
        deployed.store.fails = noted
        await deployed.start()
        await asyncio.sleep(60.0)
        await deployed.engine.stop(0.0)
        assert max(later - earlier for earlier, later in pairwise(renewed)) < deployed.engine.leases.seconds

    run(work)


def test_a_client_that_asks_for_offsets_keeps_no_coordinator_from_its_lease(deployed: Deployment) -> None:
    """The bucket is slow, or cannot be reached; the caller is in no roster. The database is well."""
    slow = threading.Event()
    store: Any = deployed.blobs
    size = store.store.size

    def waits(name: str) -> int:
        slow.wait(30.0)
        return int(size(name))

    store.store.size = waits

    async def ask() -> None:
        token = _caller.set(party(STRANGER))
        try:
            request = pb.GetVectorOffsetRequest(job=SPEC.job, round=ROUND)
            with suppress(SecAggError):
                await deployed.masking.GetVectorOffset(request, cast("Any", None))
        finally:
            _caller.reset(token)

    async def work() -> None:
        await deployed.start()
        lease = deployed.engine._runs[SPEC.job].lease
        assert lease is not None
        asking = [asyncio.ensure_future(ask()) for _ in range(64)]
        await asyncio.sleep(0.2)
        try:
            async with asyncio.timeout(_QUICKLY_SECONDS):
                assert await deployed.engine.leases.still_held(lease)
        finally:
            slow.set()
            await asyncio.gather(*asking)
            await deployed.engine.stop(0.0)

    asyncio.run(work())


def test_a_client_that_downloads_keeps_nobody_from_the_database(deployed: Deployment) -> None:
    """The bucket is slow, or cannot be reached: as many downloads as one client may hold wait for it, and nothing else does."""

    async def published() -> None:
        await deployed.start()
        await deployed.play(*WHOLE)
        await deployed.until(Phase.PUBLISHED)
        await deployed.engine.stop(0.0)

    run(published)
    slow = threading.Event()
    read = deployed.blobs.store.read

    def waits(name: str, offset: int, length: int) -> bytes:
        slow.wait(30.0)
        return bytes(read(name, offset, length))

    deployed.blobs.store.read = waits

    async def download() -> None:
        token = _caller.set(party(ALICE))
        try:
            request = client_service_pb2.DownloadMeanRequest(job=SPEC.job, round=ROUND)
            async for _ in deployed.clients.DownloadMean(request, cast("Any", None)):
                pass
        finally:
            _caller.reset(token)

    async def work() -> None:
        await deployed.start()
        downloads = [asyncio.ensure_future(download()) for _ in range(CALLS_PER_CALLER)]
        await asyncio.sleep(0.5)
        try:
            async with asyncio.timeout(_QUICKLY_SECONDS):
                assert (await deployed.engine.status(SPEC.job, ROUND)).phase is Phase.PUBLISHED
        finally:
            slow.set()
            await asyncio.gather(*downloads)
            await deployed.engine.stop(0.0)

    asyncio.run(work())


async def test_a_coordinator_that_takes_a_byte_of_each_stream_does_not_hold_a_client_beyond_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends every stream at once, and says that a little more has arrived; each stream sends all that is left."""
    streams = 0

    async def send(_self: Uploader, offsets: Offsets, _limit: Limit) -> Offsets | None:
        nonlocal streams
        streams += 1
        await asyncio.sleep(0.01)
        return (offsets[0] + 1,) if offsets[0] < Slow.sizes[0] else None

    monkeypatch.setattr(Uploader, "_send", send)
    slow: Any = Slow()
    async with asyncio.timeout(5):
        with pytest.raises(SecAggError):
            await Uploader(slow, slow, lambda _: None).run(Limit(0.5))
    assert streams


class Slow:
    """A coordinator and an upload of a client, as far as the uploader is concerned."""

    sizes = (10**6,)
    grain = 1
    part_bytes = 1 << 20
    party = COORDINATOR

    def patience(self, limit: Limit) -> Patience:
        return Patience(0.5, limit)

    async def wait(self, patience: Patience, error: Any) -> None:
        await patience.pause(error)
