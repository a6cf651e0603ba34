"""Uploads on disk that are gone, unreadable, read in part, or written by two at once, while the database is well."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from coordinator.store import blobs as blobs_module
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import Part, Spool, UploadKey
from secagg.errors import ConflictError, FaultyClientError, NotFoundError, StorageError
from secagg.ids import ClientId, JobId, RoundNumber
from secagg.messages.round import HolderVerdict, Phase
from tests.masking_material import ALICE, CLIENTS, SPEC
from tests.simulation.round_material import CLIENTS as CKKS_CLIENTS
from tests.simulation.round_material import SPEC as CKKS_SPEC
from tests.simulation.virtual_time import simulate
from tests.unit.coordinator import test_durable_uploads as ckks
from tests.unit.coordinator.durable_engine import UP_TO, WHOLE, Deployment, run
from tests.unit.coordinator.test_durable_uploads import Served


class Unreadable(io.BytesIO):
    """A file on a bad sector."""

    def read(self, *_: Any) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    made.close()


async def with_one_upload(served: Served) -> None:
    """Bring a round to where alice's upload counts, and stop the coordinator."""
    await served.start()
    await served.join()
    await served.sealed()
    await served.send(ckks.ALICE)
    await served.complete(ckks.ALICE)
    await served.engine.stop(0.0)


def simulated(work: Any) -> None:
    defects: list[str] = []
    simulate(0, work, defects)
    assert not defects


def test_a_round_whose_uploads_are_gone_ends_and_the_next_one_begins(tmp_path: Path) -> None:
    """The database was restored from a backup, say, and what had been uploaded was deleted since."""
    served = Served(tmp_path)

    async def work() -> None:
        await with_one_upload(served)
        served.blobs.delete_prefix("uploads")
        await served.restart()
        await asyncio.sleep(CKKS_SPEC.deadlines.uploading_seconds + 30.0)
        assert served.store.round(CKKS_SPEC.job, RoundNumber(1)).status.phase is Phase.ABORTED
        await served.engine.stop(0.0)

    simulated(work)
    served.store.close()


def test_no_key_holder_is_blamed_for_uploads_that_the_coordinator_lost(tmp_path: Path) -> None:
    """Its bucket threw them away: that is for its operator to hear, and nothing against the holders that were to see them."""
    served = Served(tmp_path)

    async def work() -> None:
        await with_one_upload(served)
        await served.restart()
        for client in CKKS_CLIENTS[1:]:
            await served.send(client)
            if client == CKKS_CLIENTS[-1]:
                served.blobs.read = lost  # type: ignore[method-assign]
            await served.complete(client)
        await served.state(Phase.ABORTED)
        await served.engine.stop(0.0)

    def lost(name: str, _offset: int, _length: int) -> bytes:
        raise NotFoundError(f"there is no blob {name}")

    simulated(work)
    status = served.store.round(CKKS_SPEC.job, RoundNumber(1)).status
    assert {one.verdict for one in status.holders} == {HolderVerdict.OK}, status.reason
    served.store.close()


def test_an_upload_that_cannot_be_read_keeps_no_coordinator_from_starting(tmp_path: Path) -> None:
    """Its other jobs have nothing to do with a bad sector."""
    served = Served(tmp_path)

    async def work() -> None:
        await with_one_upload(served)
        served.blobs.open = lambda _name: cast("BinaryIO", Unreadable())  # type: ignore[method-assign]
        await served.restart()
        await served.engine.stop(0.0)

    simulated(work)
    served.store.close()


def test_a_blob_that_is_read_short_is_not_its_clients_fault(deployed: Deployment) -> None:
    """Two listings of a bucket may differ: what is not all there for the moment is the store's to answer for."""
    opened, short = deployed.blobs.store.open, [True]

    def opens(name: str) -> BinaryIO:
        file: BinaryIO = opened(name)
        if not short or f"/{ALICE}/" not in name:
            return file
        short.clear()
        with closing(file):
            return io.BytesIO(file.read()[:-16])

    deployed.blobs.store.open = opens

    async def work() -> None:
        await deployed.start()
        await deployed.play(*UP_TO["complete"][:-1])
        try:
            await deployed.call(ALICE, "complete")
        except FaultyClientError as error:
            pytest.fail(f"an honest client is out of the round: {error}")
        except StorageError:
            await deployed.insist(ALICE, "complete")
        await deployed.play("complete", clients=CLIENTS[1:])
        await deployed.play(*WHOLE[WHOLE.index("complete") + 1 :])
        assert await deployed.until(Phase.PUBLISHED, Phase.ABORTED) is Phase.PUBLISHED
        record = deployed.store.last_round(SPEC.job)
        assert ALICE in record.status.contributors
        await deployed.engine.stop(0.0)

    run(work)
    assert not short


def test_what_was_verified_is_not_overwritten_by_a_part_that_was_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round is let go of and taken up again while the disk is slow with one of a client's parts; it sends others meanwhile."""
    spool = Spool(DirectoryBlobStore(tmp_path), max_bytes=1 << 20)
    key = UploadKey(job=JobId("digits"), round=RoundNumber(1), client=ClientId("mallory"))
    bounds, first, other = {"vector": 64}, b"a" * 64, b"b" * 64
    begun, goes_on, written = threading.Event(), threading.Event(), blobs_module._write_all

    def slow(file: BinaryIO, data: memoryview) -> None:
        if bytes(data) == first:
            begun.set()
            goes_on.wait(10.0)
        written(file, data)

    monkeypatch.setattr(blobs_module, "_write_all", slow)
    spool.reserve(key, bounds)
    late = threading.Thread(target=spool.append, args=(key, part(first)))
    late.start()
    assert begun.wait(10.0)

    def taken_up_again() -> None:
        spool.forget_round(key.job, key.round)
        spool.recall(key.job, key.round, bounds)
        spool.reserve(key, bounds)
        with suppress(ConflictError):
            spool.append(key, part(other))

    again = threading.Thread(target=taken_up_again)
    again.start()
    again.join(1.0)
    verified = None if again.is_alive() else (tmp_path / key.blob("vector")).read_bytes()
    goes_on.set()
    late.join(10.0)
    again.join(10.0)
    if verified is not None:
        assert (tmp_path / key.blob("vector")).read_bytes() == verified


def part(data: bytes) -> Part:
    return Part(stream="vector", offset=0, data=data, digest=hashlib.sha256(data).digest())
