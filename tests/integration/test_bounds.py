"""What goes beyond a bound is told to come back, and comes back; and no bound is the number of clients."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from secagg.client import RoundResult
from secagg.client.calls import Coordinator
from secagg.client.transfer import Uploader
from secagg.client.uploads import VectorUpload
from secagg.errors import BusyError, SecAggError
from secagg.plan import CkksJob, JobSpec, TensorSpec
from tests.live_deployment import LiveDeployment, visited
from tests.live_jobs import (
    HOLDERS,
    error_bound,
    largest_error,
    live_deadlines,
    live_job,
    live_masking_job,
    updates_of,
    weights_of,
)
from tests.round_cluster import eventually

MEBIBYTE = 1024**2
CREW = ("alice", "bob", "carol", "dave", "erin")
PART_BYTES = 64 * 1024
PATIENCE_SECONDS = 40.0
FEW, MANY = 3, 12
VALUES = 400_000
MOST_GROWTH_BYTES = (MANY - FEW) * 4 * MEBIBYTE
"""What gRPC keeps for nine connections more, whatever they carry: less than half of what they upload, 24 bytes for each value."""

_who: ContextVar[str] = ContextVar("who")


async def standing(made: LiveDeployment, **settings: str) -> AsyncIterator[LiveDeployment]:
    made.settings["coordinator"] = {f"limits.{name}": value for name, value in settings.items()}
    try:
        made.start()
        async with visited(made) as live:
            yield live
    finally:
        made.close()


def vector_job() -> JobSpec:
    """Return a job of five clients, of whose uploads a round and a half is more than a mebibyte."""
    return live_masking_job(
        tensors=(TensorSpec(name="w", shape=(200, 250), dtype="float32"),),
        deadlines=live_deadlines(uploading_seconds=60.0, sharing_seconds=60.0, confirming_seconds=60.0),
    )


@dataclass(kw_only=True)
class PushedBack:
    """Who was told to come back, and what; clients of this process tell it as they meet it."""

    told: dict[str, list[BusyError]] = field(default_factory=lambda: defaultdict(list))

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = Coordinator.wait

        async def wait(coordinator: Coordinator, patience: Any, error: SecAggError) -> None:
            if isinstance(error, BusyError):
                self.told[_who.get()].append(error)
            await honest(coordinator, patience, error)

        monkeypatch.setattr(Coordinator, "wait", wait)

    @property
    def by_the_spool(self) -> list[BusyError]:
        return [one for errors in self.told.values() for one in errors if "spool" in one.reason]


def assert_says_when(error: BusyError) -> None:
    """What came over the wire says when to come back: to us in the fields, to any gRPC client in its own way."""
    assert error.retry_after_seconds is not None
    assert 1 <= error.retry_after_seconds <= 30
    call = error.__cause__
    assert isinstance(call, grpc.aio.AioRpcError)
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = dict(call.trailing_metadata() or ())
    assert trailing["grpc-retry-pushback-ms"] == str(1000 * error.retry_after_seconds)


@dataclass(kw_only=True)
class Order:
    """Alice of the first job uploads half and waits for all others to be sent away; erin of it waits until the spool is full."""

    first: JobSpec
    live: LiveDeployment
    pushed: PushedBack
    others: int
    _all_sent_away: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run, begin = Uploader.run, VectorUpload.begin

        async def ordered(uploader: Uploader, *arguments: Any, **options: Any) -> None:
            await self._turn(_who.get())
            await run(uploader, *arguments, **options)

        def begun(upload: VectorUpload, seconds: float) -> Any:
            call = begin(upload, seconds)
            return (
                HeldUpload(call=call, may_go_on=self._all_sent_away)
                if _who.get() == f"{self.first.job}/alice"
                else call
            )

        monkeypatch.setattr(Uploader, "run", ordered)
        monkeypatch.setattr(VectorUpload, "begin", begun)
        monkeypatch.setattr(VectorUpload, "part_bytes", property(lambda _: PART_BYTES))

    async def _turn(self, who: str) -> None:
        if who != f"{self.first.job}/alice":
            await eventually(self._alice_is_in, PATIENCE_SECONDS)
        if who == f"{self.first.job}/erin":
            await eventually(lambda: bool(self.pushed.by_the_spool), PATIENCE_SECONDS)

    def _alice_is_in(self) -> bool:
        spooled = self.live.directory / "coordinator" / "blobs" / "uploads" / self.first.job / "1" / "clients" / "alice"
        return spooled.exists()

    async def watch(self) -> None:
        await eventually(lambda: len(self.pushed.told) >= self.others, PATIENCE_SECONDS)
        self._all_sent_away.set()


@dataclass(kw_only=True)
class HeldUpload:
    """An upload that stops after its header and one part, until it may go on."""

    call: Any
    may_go_on: asyncio.Event
    written: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)

    def __await__(self) -> Any:
        return self.call.__await__()

    async def write(self, message: Any) -> None:
        if self.written == 2:
            await self.may_go_on.wait()
        await self.call.write(message)
        self.written += 1


async def as_who(who: str, work: Callable[[], Awaitable[Any]]) -> Any:
    _who.set(who)
    return await work()


@pytest.fixture
async def tight(tmp_path: Path) -> AsyncIterator[LiveDeployment]:
    """A coordinator that takes one upload at a time, and the uploads of one round and a half."""
    round_bytes = 5 * vector_job().masking_parameters.vector_bytes
    assert 1.5 * round_bytes > MEBIBYTE
    limits = {"concurrent_uploads": "1", "spool_bytes": str(int(1.5 * round_bytes))}
    async for live in standing(LiveDeployment(tmp_path, holders=()), **limits):
        yield live


async def test_two_rounds_beyond_the_bounds_are_pushed_back_and_none_of_their_clients_is_dropped(
    tight: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = PushedBack()
    pushed.watch(monkeypatch)
    jobs = [await tight.create(vector_job()), await tight.create(vector_job())]
    # Of the first job alice is in, and erin comes later.
    order = Order(first=jobs[0], live=tight, pushed=pushed, others=8)
    order.keep(monkeypatch)

    def participate(spec: JobSpec, name: str) -> Callable[[], Awaitable[RoundResult]]:
        update, weight = updates_of(spec, [name])[name], weights_of(CREW)[name]
        return lambda: tight.client(name).participate(spec.job, update, weight)

    async with asyncio.timeout(80), asyncio.TaskGroup() as group:
        watching = group.create_task(order.watch())
        tasks = {
            spec.job: {name: group.create_task(as_who(f"{spec.job}/{name}", participate(spec, name))) for name in CREW}
            for spec in jobs
        }
        await asyncio.wait([task for crew in tasks.values() for task in crew.values()])
        watching.cancel()
    for spec in jobs:
        for task in tasks[spec.job].values():
            result = task.result()
            assert result.contributors == CREW
            assert result.round == 1
            error = largest_error(result.mean, updates_of(spec, CREW).values(), weights_of(CREW).values())
            assert error < error_bound(spec, weights_of(CREW))
    assert len(pushed.told) >= order.others
    assert pushed.by_the_spool
    for error in [one for errors in pushed.told.values() for one in errors]:
        assert_says_when(error)


@pytest.fixture
async def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveDeployment]:
    """A deployment that has done nothing yet and takes two uploads at a time."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    async for live in standing(LiveDeployment(tmp_path), concurrent_uploads="2"):
        yield live


def growing_job(clients: int) -> JobSpec:
    return live_job(
        tensors=(TensorSpec(name="w", shape=(VALUES,), dtype="float32"),),
        max_clients=clients,
        deadlines=live_deadlines(uploading_seconds=60.0),
        protocol=CkksJob(holders=HOLDERS, precision=1e-3),
    )


async def test_four_times_the_clients_take_the_same_memory(narrow: LiveDeployment) -> None:
    peaks = []
    for clients in (FEW, MANY):
        names = tuple(f"client-{number:02}" for number in range(clients))
        spec = await narrow.create(growing_job(clients))
        await narrow.published(spec, names)
        holder = max(narrow.services[name].peak_rss_bytes() for name in HOLDERS)
        peaks.append((narrow.coordinator.peak_rss_bytes(), holder))
        print(f"{clients} clients: peaks of coordinator and holder {[peak / MEBIBYTE for peak in peaks[-1]]} MiB")
    (coordinator_few, holder_few), (coordinator_many, holder_many) = peaks
    assert coordinator_many - coordinator_few < MOST_GROWTH_BYTES
    assert holder_many - holder_few < MOST_GROWTH_BYTES
