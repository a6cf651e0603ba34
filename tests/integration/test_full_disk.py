"""A disk that is full, read-only or slow beneath a coordinator: it says so, loses nothing, and goes on with the same round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from he.ciphertext import half_chunk_bytes
from secagg.client import Progress
from secagg.client.calls import Coordinator
from secagg.client.transfer import Uploader
from secagg.client.uploads import HalvesUpload, VectorUpload
from secagg.messages.round import Phase
from secagg.plan import JobSpec, MaskingJob, TensorSpec
from tests.live_deployment import LiveDeployment, visited
from tests.live_jobs import (
    live_deadlines,
    live_job,
    live_masking_job,
)
from tests.round_cluster import eventually
from tests.small_disk import can_mount
from tests.small_disk_house import PATIENCE_SECONDS, House

PART_BYTES = LARGEST_PART_BYTES = 64 * 1024
"""Of a vector; a chunk of half a ciphertext is smaller."""
EIGHT = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
FIVE, THREE = ("alice", "bob", "carol", "dave", "erin"), ("alice", "bob", "carol")
VALUES = {"masking": 300_000, "ckks": 80_000}
DISKS = ["mounted", "limited"] if can_mount() else ["limited"]
NEEDS_MOUNT = ["mounted"] if can_mount() else []


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    """Key holders for all tests; each test starts a coordinator of its own."""
    made = LiveDeployment(tmp_path_factory.mktemp("disks"))
    try:
        for holder in made.holders:
            made.add_holder(holder)
        made.start_services(made.holders)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def standing(deployment: LiveDeployment, tmp_path_factory: pytest.TempPathFactory, kind: str) -> Iterator[House]:
    """A coordinator on disks of this kind."""
    made = House(live=deployment, directory=tmp_path_factory.mktemp("house"), kind=kind)
    try:
        made.begin()
        yield made
    finally:
        made.end()


@pytest.fixture
async def house(standing: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    standing.forget()
    monkeypatch.setattr(Coordinator, "wait", standing.listening(Coordinator.wait))
    async with visited(standing.live):
        yield standing


def masking_job(**changes: Any) -> JobSpec:
    seconds = live_deadlines(uploading_seconds=60.0, confirming_seconds=60.0, unmasking_seconds=60.0)
    tensors = (TensorSpec(name="w", shape=(VALUES["masking"],), dtype="float32"),)
    return live_masking_job(tensors=tensors, deadlines=seconds, **changes)


def ckks_job() -> JobSpec:
    seconds = live_deadlines(uploading_seconds=60.0, approving_seconds=60.0, decrypting_seconds=60.0)
    return live_job(tensors=(TensorSpec(name="w", shape=(VALUES["ckks"],), dtype="float32"),), deadlines=seconds)


JOBS = {"masking": (masking_job, FIVE), "ckks": (ckks_job, THREE)}


def sent_parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the lengths of all parts that clients of this process take up to send, as they do; vectors go in small ones."""
    sent: list[int] = []
    for kind in (HalvesUpload, VectorUpload):
        read = kind.read

        def counted(upload: Any, *place: int, read: Callable[..., bytes] = read) -> bytes:
            data = read(upload, *place)
            sent.append(len(data))
            return data

        monkeypatch.setattr(kind, "read", counted)
    monkeypatch.setattr(VectorUpload, "part_bytes", property(lambda _: PART_BYTES))
    monkeypatch.setattr(HalvesUpload, "part_bytes", property(lambda upload: upload.grain))
    return sent


def total_bytes(spec: JobSpec, clients: int) -> int:
    """Return what all of them upload."""
    if isinstance(spec.protocol, MaskingJob):
        return clients * spec.masking_parameters.vector_bytes
    parameters = spec.parameters(len(spec.ckks.holders))
    return clients * 2 * parameters.chunks * half_chunk_bytes(parameters)


def once_all_is_sent(monkeypatch: pytest.MonkeyPatch, clients: int, then: Callable[[], None]) -> None:
    """Do something once everything that clients upload has arrived, and before the first of it is counted."""
    barrier, honest = asyncio.Barrier(clients), Uploader._complete

    async def complete(uploader: Uploader, limit: Any) -> None:
        if await barrier.wait() == 0:
            then()
        await barrier.wait()
        await honest(uploader, limit)

    monkeypatch.setattr(Uploader, "_complete", complete)


@pytest.mark.parametrize("kind", DISKS, scope="module")
@pytest.mark.parametrize("protocol", JOBS)
async def test_uploads_wait_for_space_and_what_had_arrived_is_not_sent_again(
    house: House, kind: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, names = JOBS[protocol]
    spec, sent = await house.live.create(make()), sent_parts(monkeypatch)
    # Room for a part of each, and not for all.
    house.blobs.fill(leaving_bytes=len(names) * LARGEST_PART_BYTES)
    tasks = house.start(spec, names)
    await house.complains("could not be stored", house.blobs.words)
    await eventually(lambda: bool(house.told), PATIENCE_SECONDS)
    arrived = house.arrived_bytes()
    assert arrived > 0
    sent.clear()
    house.blobs.make_space()
    await house.publishes(spec, tasks)
    # Of each upload a part may have been on its way.
    assert sum(sent) <= total_bytes(spec, len(names)) - arrived + len(names) * LARGEST_PART_BYTES
    assert all("/" not in str(error).replace("coordinator/coordinator", "") for error in house.told)


@pytest.mark.parametrize("kind", NEEDS_MOUNT, scope="module")
async def test_uploads_wait_while_the_disk_is_read_only(house: House, kind: str) -> None:
    spec = await house.live.create(masking_job())
    house.blobs.make_read_only()
    tasks = house.start(spec, FIVE)
    await house.complains("could not be stored", "the disk is read-only")
    house.blobs.make_writable()
    await house.publishes(spec, tasks)


@pytest.mark.parametrize("kind", DISKS, scope="module")
async def test_the_holders_answers_wait_for_space(house: House, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = await house.live.create(ckks_job())
    once_all_is_sent(monkeypatch, len(THREE), house.blobs.fill)
    tasks = house.start(spec, THREE)
    await house.complains("could not be stored", "/answers/", house.blobs.words)
    assert (await house.live.reached(spec, Phase.DECRYPTING)).phase is Phase.DECRYPTING
    house.blobs.make_space()
    await house.publishes(spec, tasks)


@pytest.mark.parametrize("kind", DISKS, scope="module")
@pytest.mark.parametrize("what", ["/sum/", "means/"])
async def test_the_mean_waits_for_space(house: House, kind: str, what: str) -> None:
    spec = await house.live.create(masking_job())
    # The sum takes 8 bytes for each value, and the mean 4; a limit is on each file alone.
    room = 0 if what == "/sum/" or kind == "limited" else 9 * VALUES["masking"]

    def tell(progress: Progress) -> None:
        if progress.phase is Phase.UNMASKING and not house.complaints("could not be stored"):
            house.blobs.fill(leaving_bytes=room)

    tasks = house.start(spec, FIVE, tell)
    await house.complains("could not be stored", "/sum/" if kind == "limited" else what, house.blobs.words)
    house.blobs.make_space()
    await house.publishes(spec, tasks)


@pytest.mark.parametrize("kind", NEEDS_MOUNT, scope="module")
@pytest.mark.parametrize("protocol", JOBS)
async def test_moves_wait_for_space_in_the_database(
    house: House, kind: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, names = JOBS[protocol]
    spec = await house.live.create(make())
    once_all_is_sent(monkeypatch, len(names), house.database.fill)
    tasks = house.start(spec, names)
    await eventually(lambda: bool(house.told), PATIENCE_SECONDS)
    assert await house.serves()
    assert (await house.live.reached(spec, Phase.UPLOADING)).uploaded < len(names)
    house.database.make_space()
    await house.publishes(spec, tasks)


@pytest.mark.parametrize("kind", ["slow"], scope="module")
async def test_a_slow_disk_holds_up_uploads_and_nothing_else(
    house: House, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More uploads than asyncio has threads on two cores.
    spec = await house.live.create(masking_job(max_clients=len(EIGHT), min_contributors=6))
    sent = sent_parts(monkeypatch)
    house.slow.touch()
    tasks = house.start(spec, EIGHT)
    await eventually(lambda: len(sent) >= len(EIGHT), PATIENCE_SECONDS)
    assert await house.serves()
    # Jobs are made and looked at meanwhile: what waits for the disk keeps nobody from the database.
    await house.live.create(masking_job())
    assert (await house.live.reached(spec, Phase.UPLOADING)).uploaded == 0
    assert not house.told
    house.slow.unlink()
    await house.publishes(spec, tasks)
