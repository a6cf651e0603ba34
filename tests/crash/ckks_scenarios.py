"""Rounds of ckks in which processes die: what clients and key holders do meanwhile, and what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from secagg.client.uploads import HalvesUpload
from secagg.errors import FaultyClientError, LateError, RoundAbortedError
from secagg.ids import HolderId, JobId
from secagg.messages.round import Phase
from secagg.plan import JobSpec
from tests.crash.crash_house import FIRST, CrashHouse
from tests.crash.masking_scenarios import fired, late, results_of
from tests.crash.reviving import dying_at
from tests.crash.verifying import CKKS_CREW, verify_job
from tests.files_on_disk import files_under
from tests.live_jobs import live_job, updates_of, weights_of
from tests.misbehaving_holder import lying_job

CENTRE, EAST, NORTH, WEST = (HolderId(name) for name in ("centre", "east", "north", "west"))


def one_round(**changes: Any) -> JobSpec:
    """Return a job of one round."""
    return live_job(**{"rounds": 1, "deadlines": late(), **changes})


def start(house: CrashHouse, spec: JobSpec, *, after: int = 0) -> dict[str, asyncio.Task[Any]]:
    """Let every client of the SDK take part."""
    updates, weights = updates_of(spec, CKKS_CREW), weights_of(CKKS_CREW)
    return {
        name: asyncio.ensure_future(
            house.live.client(name).participate(spec.job, updates[name], weights[name], after_round=after)
        )
        for name in CKKS_CREW
    }


async def plain(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clients and five key holders, and nobody does wrong."""
    spec = one_round()
    async with dying_at(house.live.services[FIRST], points):
        await house.create(spec)
        watching = asyncio.ensure_future(house.reached(spec, Phase.PUBLISHED))
        results = await results_of(start(house, spec))
        await watching
    await verify_job(house, spec, results, CKKS_CREW)


async def refused(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Carol's disk flips a bit after she has signed: her ciphertext is refused, and the others' sum is published."""
    honest = HalvesUpload.read

    def read(upload: HalvesUpload, stretch: int, offset: int, length: int) -> bytes:
        data = honest(upload, stretch, offset, length)
        return bytes([data[0] ^ 1]) + data[1:] if b"carol" in upload.signed.payload and not offset else data

    monkeypatch.setattr(HalvesUpload, "read", read)
    spec = one_round()
    async with dying_at(house.live.services[FIRST], points):
        await house.create(spec)
        results = await results_of(start(house, spec))
    # Where her refusal closed the uploads, she may be told of it once, and then that she is late.
    assert isinstance(results.pop("carol"), FaultyClientError | LateError | RoundAbortedError)
    await verify_job(house, spec, results, results)


async def silent_holder(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Centre dies once the key is made, and the round waits for west until everybody knows."""
    spec = one_round()
    house.straggle(spec.job)
    async with dying_at(house.live.services[FIRST], points) as reviver:
        await house.create(spec)
        await house.reached(spec, Phase.OPEN)
        house.live.services[CENTRE].kill()
        tasks = start(house, spec)
        await fired(reviver, tasks)
        house.release(spec.job)
        results = await results_of(tasks)
    await verify_job(house, spec, results, CKKS_CREW, struck=[CENTRE])


async def liar(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """North answers wrongly, and west late: four answers show that somebody lies, and the fifth shows who."""
    spec = one_round(job=lying_job("wrong-residues", NORTH))
    house.straggle(spec.job)
    async with dying_at(house.live.services[FIRST], points) as reviver:
        await house.create(spec)
        tasks = start(house, spec)
        await fired(reviver, tasks)
        house.release(spec.job)
        results = await results_of(tasks)
    await verify_job(house, spec, results, CKKS_CREW)


async def no_key(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few key holders are there for a key: the round ends, once; when they are back, a later one is published."""
    away = (WEST, CENTRE)
    for holder in away:
        house.live.services[holder].kill()
    spec = one_round()
    async with dying_at(house.live.services[FIRST], points):
        await house.create(spec)
        await house.reached(spec, Phase.ABORTED)
    await asyncio.to_thread(house.live.start_services, away)
    results = await results_of(start(house, spec, after=1))
    rounds = {result.round for result in results.values()}
    await verify_job(house, spec, results, CKKS_CREW, aborted=["no key could be made"] * (max(rounds) - 1))


async def lost_half(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes a c0 beneath a dead coordinator: the round cannot be published, and says so; the next one is."""
    spec = one_round()

    def lose(point: str) -> None:
        if point == points[0]:
            half_of(house, spec.job, "bob", "c0")

    async with dying_at(house.live.services[FIRST], points, lose):
        await house.create(spec)
        early = await results_of(start(house, spec))
    assert all(isinstance(one, RoundAbortedError) for one in early.values()), early
    results = await results_of(start(house, spec, after=1))
    await verify_job(house, spec, results, CKKS_CREW, aborted=["is gone from the coordinator's blob store"])


def half_of(house: CrashHouse, job: JobId, client: str, half: str) -> None:
    """Delete half of a client's ciphertext."""
    found = [path for path in files_under(house.blobs) if {job, client, half} <= {*path.parts}]
    assert found, f"{client} has uploaded no {half}"
    for path in found:
        path.unlink()


async def few(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One client came in time: the round ends without a result, once, and the next one is published."""
    spec = one_round(deadlines=late(open_seconds=4.0))
    async with dying_at(house.live.services[FIRST], points):
        await house.create(spec)
        tasks = start(house, spec)
        for name in CKKS_CREW[1:]:
            tasks.pop(name).cancel()
        early = await results_of(tasks)
    assert all(isinstance(one, RoundAbortedError) for one in early.values()), early
    results = await results_of(start(house, spec, after=1))
    await verify_job(house, spec, results, CKKS_CREW, aborted=["too few clients joined in time"])
