"""Places for uploads and for the parts that are being written: bounded, freed, and told about."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from prometheus_client import CollectorRegistry

from coordinator.contracts import Limits
from coordinator.rounds.live import LiveRound
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.surroundings import Surroundings
from coordinator.streams import UploadKey
from coordinator.upload_desk import STREAMS_PER_CLIENT, WRITERS, UploadDesk
from secagg.errors import BusyError, StorageError
from secagg.ids import ClientId, JobId, RoundNumber
from tests.round_cluster import eventually

LIVE = cast("LiveRound", SimpleNamespace(log=structlog.get_logger()))
PARTS = 60


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def desk(uploads: int, clock: Clock | None = None) -> UploadDesk:
    around = cast("Surroundings", SimpleNamespace(metrics=RoundMetrics(CollectorRegistry())))
    return UploadDesk(around, Limits(concurrent_uploads=uploads), clock=clock or Clock())


def key(name: str) -> UploadKey:
    return UploadKey(job=JobId("digits"), round=RoundNumber(1), client=ClientId(name))


@pytest.mark.parametrize(("held", "hint"), [(0.0, 1), (9.0, 5), (3600.0, 30)])
def test_who_finds_no_place_is_told_when_to_come_back(held: float, hint: int) -> None:
    clock = Clock()
    here = desk(1, clock)
    with here.place(key("alice")):
        clock.now += held
        with pytest.raises(BusyError, match="1 clients") as busy, here.place(key("bob")):
            pass
        assert busy.value.retry_after_seconds == hint
    with here.place(key("bob")):
        pass


def test_a_client_that_comes_back_over_and_over_is_told_too_and_keeps_no_place() -> None:
    clock = Clock()
    here = desk(1, clock)
    with ExitStack() as held:
        for _ in range(STREAMS_PER_CLIENT):
            held.enter_context(here.place(key("alice")))
        clock.now += 20
        with pytest.raises(BusyError, match="alice") as busy, here.place(key("alice")):
            pass
        assert busy.value.retry_after_seconds == 10
    with here.place(key("bob")):
        pass


class SlowDisk:
    """Counts who writes at a time, until it may go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.writing = self.most = self.written = 0
        self._lock = threading.Lock()

    def append(self, part: Any) -> None:
        with self._lock:
            self.writing += 1
            self.most = max(self.most, self.writing)
        assert self.go_on.wait(20)
        with self._lock:
            self.writing -= 1
            self.written += 1


@pytest.fixture
def disk() -> Iterator[SlowDisk]:
    made = SlowDisk()
    yield made
    made.go_on.set()


class Part:
    """Bytes that can be looked for in memory."""


async def test_a_slow_disk_gets_so_many_parts_at_a_time_and_all_of_them_in_the_end(disk: SlowDisk) -> None:
    here = desk(64)
    writes = [asyncio.create_task(here.write(LIVE, key("alice"), lambda: disk.append(None))) for _ in range(PARTS)]
    await eventually(lambda: disk.writing == WRITERS)
    disk.go_on.set()
    await asyncio.gather(*writes)
    assert (disk.most, disk.written) == (WRITERS, PARTS)


async def test_who_waits_for_a_slow_disk_can_go_away_and_leaves_no_part_in_memory(disk: SlowDisk) -> None:
    here, held = desk(64), []

    async def upload() -> None:
        part = Part()
        held.append(weakref.ref(part))
        async with asyncio.timeout(0.3):
            await here.write(LIVE, key("alice"), lambda: disk.append(part))

    ended = await asyncio.wait_for(asyncio.gather(*(upload() for _ in range(PARTS)), return_exceptions=True), timeout=5)
    assert all(isinstance(one, TimeoutError) for one in ended)
    del ended
    gc.collect()
    # What a thread works on it keeps; nobody else gets its place before it has ended.
    assert sum(one() is not None for one in held) == WRITERS == disk.writing
    late = asyncio.create_task(here.write(LIVE, key("bob"), lambda: disk.append(None)))
    await asyncio.sleep(0)
    assert disk.most == WRITERS
    disk.go_on.set()
    await late
    await eventually(lambda: disk.written == WRITERS + 1)


async def test_a_part_that_fails_after_its_caller_went_away_is_no_defect_of_ours(disk: SlowDisk) -> None:
    """An error that nobody reads is logged by asyncio, with a traceback, once for each client that lost its connection."""
    unread: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unread.append(context))
    here = desk(1)

    def refuse() -> None:
        disk.append(None)
        raise StorageError("the disk is full")

    writing = asyncio.create_task(here.write(LIVE, key("alice"), refuse))
    await eventually(lambda: disk.writing == 1)
    writing.cancel()
    await asyncio.wait({writing})
    # Its traceback would keep what was not read from being found.
    del writing
    disk.go_on.set()
    # Its place is free once it has failed.
    await here.write(LIVE, key("bob"), lambda: disk.append(None))
    gc.collect()
    assert unread == []


async def test_a_part_that_is_not_stored_is_logged_with_its_cause_and_frees_its_place() -> None:
    here = desk(1)

    def refuse() -> None:
        raise StorageError("uploads/digits/1/clients/alice/c0 could not be stored or read: the disk is full")

    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(StorageError):
                await here.write(LIVE, key("alice"), refuse)
    assert [(line["event"], line["client"]) for line in logs] == [("part not stored", "alice")] * 3
    assert all("the disk is full" in line["cause"] for line in logs)
