"""Masking rounds of many SDK clients against a coordinator process, over mutual TLS: sums to the last bit, whoever vanishes."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secagg.client.npz import read_arrays
from secagg.errors import LateError, RoundAbortedError
from secagg.ids import RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import JobSpec, MaskingJob
from secagg.roles.client.masking.events import SendConfirmation, SendVector
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import masking_pb2
from tests.files_on_disk import contents_under
from tests.live_deployment import ROUND_SECONDS, LiveDeployment, visited
from tests.live_jobs import live_deadlines
from tests.masking_deployment import SEVEN, Crew, Departure, LightClient, Turns, grid_job, send_small_parts
from tests.round_cluster import CALL_SECONDS, eventually
from tests.scripted_masking_client import each

UPLOADS_AT_A_TIME = 48
"""The coordinator's own bound is 64, and these clients do not come back later."""
MANY = tuple(f"client-{number:02}" for number in range(34))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("live"), holders=())
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
async def live(standing: LiveDeployment) -> AsyncIterator[LiveDeployment]:
    async with visited(standing) as deployment:
        yield deployment


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


async def ended(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(ROUND_SECONDS):
        out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


async def outcomes(tasks: dict[str, asyncio.Task[Any]]) -> dict[str, Any]:
    """Return what each got, errors included."""
    async with asyncio.timeout(ROUND_SECONDS):
        done = await asyncio.gather(*tasks.values(), return_exceptions=True)
    return dict(zip(tasks, done, strict=True))


def uploads_of(live: LiveDeployment, spec: JobSpec) -> dict[str, bytes]:
    """Return what the coordinator keeps of vectors, by client."""
    directory = live.directory / "coordinator" / "blobs" / "uploads" / spec.job
    return {path.parent.name: data for path, data in contents_under(directory).items() if path.name == "vector"}


async def watched(live: LiveDeployment, spec: JobSpec, holds: Callable[[RoundStatus], bool]) -> RoundStatus:
    """Watch the first round until something holds of it."""
    async with asyncio.timeout(ROUND_SECONDS):
        async for status in live.operator().watch_rounds(spec.job, RoundNumber(1)):
            if holds(status):
                return status
    raise AssertionError("the round ended before")


def many_job(**changes: Any) -> JobSpec:
    """Return a job for 34 clients: k = 33, t = 18, q = 19, and a third of them may vanish."""
    protocol = MaskingJob(corrupt_fraction=0.05, dropout_fraction=0.3)
    return grid_job(len(MANY), protocol=protocol, min_contributors=10, **changes)


async def test_the_mean_of_34_clients_is_exact_and_the_same_for_all(live: LiveDeployment) -> None:
    crew = await Crew.of(live, many_job(), MANY)
    alone = [await crew.process(name) for name in MANY[:2]]
    results = await outcomes(crew.start(MANY[2:]))
    for result in results.values():
        crew.assert_result(result, MANY)
    for name, process in zip(MANY, alone, strict=False):
        code, out, error = await ended(process)
        assert code == 0, error
        said = json.loads(out)
        assert said["contributors"] == list(MANY)
        assert said["total_weight"] == crew.total_weight(MANY) == 96.0
        crew.assert_exact(read_arrays(crew.out(name)), MANY)
    status = await live.ended(crew.spec)
    assert (status.joined, status.shared, status.uploaded, status.contributors) == (34, 34, 34, MANY)


async def test_clients_vanish_in_every_phase_and_the_sum_is_that_of_the_survivors(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_small_parts(monkeypatch)
    deadlines = live_deadlines(sharing_seconds=7.0, uploading_seconds=7.0)
    crew = await Crew.of(live, many_job(deadlines=deadlines), MANY)
    leaving = {name: list(Departure)[place // 2] for place, name in enumerate(MANY[-10:])}
    tasks = {name: asyncio.ensure_future(crew.take_part(name, leaving.get(name))) for name in MANY}
    results = await outcomes(tasks)
    late = (Departure.BEFORE_CONFIRMING, Departure.BEFORE_UNMASKING)
    survivors = tuple(name for name in MANY if leaving.get(name) in (None, *late))
    assert len(survivors) == 28
    for name, result in results.items():
        if name in leaving:
            assert isinstance(result, asyncio.CancelledError)
        else:
            crew.assert_result(result, survivors)
    status = await live.ended(crew.spec)
    assert (status.joined, status.shared, status.uploaded, status.approvals) == (34, 32, 28, 26)
    assert status.contributors == survivors
    await eventually(lambda: not uploads_of(live, crew.spec))


# Four who shared have three neighbours each, and four are due: none of them counts.
BELOW = {
    Departure.BEFORE_SHARES: ("sharing_seconds", "too few clients shared their secrets", (0, 5)),
    Departure.DURING_UPLOAD: ("uploading_seconds", "too few contributions", (4, 5)),
    Departure.BEFORE_CONFIRMING: ("confirming_seconds", "too few survivors confirmed the sum", (4, 5)),
    Departure.BEFORE_UNMASKING: ("unmasking_seconds", "too few shares to take the masks off", (4, 7)),
}


async def keys_of(crew: Crew, round: int) -> set[bytes]:
    """Return all that the roster of a round shows of its clients' keys."""
    alice = crew.live.scripted("alice")
    request = pb.WaitForRosterRequest(job=crew.spec.job, round=round)
    answer = await alice.call(alice.stub.WaitForRoster(request, timeout=CALL_SECONDS))
    joins = [masking_pb2.MaskingJoin.FromString(one.payload) for one in answer.masking_roster.joins]
    return {key for join in joins for key in (join.mask_key, join.share_key, join.seed_commitment)}


@pytest.mark.parametrize("departure", BELOW)
async def test_too_many_vanish_and_the_next_round_has_new_keys(
    live: LiveDeployment, monkeypatch: pytest.MonkeyPatch, departure: Departure
) -> None:
    send_small_parts(monkeypatch)
    phase, why, counts = BELOW[departure]
    crew = await Crew.of(live, grid_job(deadlines=live_deadlines(**{phase: 4.0})))
    gone, staying = SEVEN[4:], SEVEN[:4]
    tasks = {name: asyncio.ensure_future(crew.take_part(name, departure if name in gone else None)) for name in SEVEN}
    results = await outcomes(tasks)
    for name in staying:
        error = results[name]
        assert isinstance(error, RoundAbortedError), repr(error)
        assert why in str(error)
        assert f"{', '.join(gone)} did not" in str(error)
        assert (error.have, error.need) == counts
    assert (await live.ended(crew.spec)).phase is Phase.ABORTED
    await eventually(lambda: not uploads_of(live, crew.spec))
    again = await outcomes(crew.start(SEVEN, after=1))
    for result in again.values():
        crew.assert_result(result, SEVEN)
        assert result.round == 2
    first, second = await keys_of(crew, 1), await keys_of(crew, 2)
    assert len(first) == len(second) == 3 * len(SEVEN)
    assert not first & second


async def test_a_whole_vector_that_comes_late_is_refused_and_leaves_nothing(
    live: LiveDeployment, turns: Turns, tmp_path: Path
) -> None:
    """Promise P4: its sender was declared dropped, so its mask key opens; with the vector, its update would be bare."""
    crew = await Crew.of(live, grid_job(deadlines=live_deadlines(uploading_seconds=4.0)))
    staying, sending = SEVEN[:-1], turns.hold("grace", SendVector)
    confirming = [turns.hold(name, SendConfirmation) for name in staying[:2]]
    tasks = crew.start(staying)
    late = asyncio.ensure_future(crew.take_part("grace", state_dir=tmp_path / "state"))
    await live.reached(crew.spec, Phase.CONFIRMING)
    vector = (tmp_path / "state" / f"{crew.spec.job}.vector").read_bytes()
    assert len(vector) == crew.spec.masking_parameters.vector_bytes
    sending.allowed.set()
    with pytest.raises(LateError):
        await late
    assert sorted(uploads_of(live, crew.spec)) == list(staying)
    assert not traces_of(vector, live)
    for turn in confirming:
        turn.allowed.set()
    for result in (await outcomes(tasks)).values():
        crew.assert_result(result, staying)
    assert not traces_of(vector, live)


def traces_of(vector: bytes, live: LiveDeployment) -> list[Path]:
    """Return files of the coordinator with any aligned part of a vector in them."""
    parts = [vector[start : start + 64] for start in range(0, len(vector) - 64, 64)]
    kept = contents_under(live.directory / "coordinator")
    assert kept
    return [path for path, data in kept.items() if any(part in data for part in parts)]


async def test_a_killed_client_finishes_the_round_with_its_state_and_drops_out_without(
    live: LiveDeployment, turns: Turns, tmp_path: Path
) -> None:
    crew = await Crew.of(live, grid_job())
    state, others = tmp_path / "state", SEVEN[2:]
    # Five in seven are a quorum: nothing is revealed before these two, or one of them and who was killed, have confirmed.
    confirming = [turns.hold(name, SendConfirmation) for name in others[-2:]]
    uploading = turns.hold("grace", SendVector)
    tasks = crew.start(others)
    alice, bob = await crew.process("alice", "--state-dir", str(state)), await crew.process("bob")
    await watched(live, crew.spec, lambda status: status.uploaded == 6)
    alice.kill()
    bob.kill()
    await asyncio.gather(alice.wait(), bob.wait())
    before = uploads_of(live, crew.spec)
    assert (state / f"{crew.spec.job}.vector").read_bytes() == before["alice"]
    alice, bob = await crew.process("alice", "--state-dir", str(state)), await crew.process("bob")
    uploading.allowed.set()
    await watched(live, crew.spec, lambda status: status.approvals == 4)
    after = uploads_of(live, crew.spec)
    assert {name: after[name] for name in before} == before
    for turn in confirming:
        turn.allowed.set()
    code, _, error = await ended(alice)
    assert code == 0, error
    crew.assert_exact(read_arrays(crew.out("alice")), SEVEN)
    for result in (await outcomes(tasks)).values():
        crew.assert_result(result, SEVEN)
    code, _, error = await ended(bob)
    assert code != 0
    assert "has published all its rounds" in error
    assert not crew.out("bob").exists()
    # Bob's vector was whole; it confirmed nothing, neither before nor after.
    assert (await live.ended(crew.spec)).approvals == 6


@pytest.mark.soak
async def test_a_ring_of_201_clients_bears_those_who_fall_out_of_it(live: LiveDeployment) -> None:
    names = tuple(f"member-{number:03}" for number in range(201))
    protocol = MaskingJob(corrupt_fraction=0.05, dropout_fraction=0.05)
    crew = await Crew.of(live, grid_job(201, protocol=protocol, min_contributors=120, min_total_weight=180.0), names)
    clients = [LightClient(crew, name) for name in names]
    await asyncio.gather(*(one.offered(crew.spec.job) for one in clients))
    await each(clients, "enter", "share", "send_shares")
    assert all(len(one.shares.sealed) < 50 for one in clients)
    staying, falling = clients[:-9], clients[-9:]
    await each(falling, "fail_to_upload")
    for start in range(0, len(staying), UPLOADS_AT_A_TIME):
        await each(staying[start : start + UPLOADS_AT_A_TIME], "upload_all")
    await each(staying, "confirm", "reveal", "unmask")
    result, mean = await clients[0].result(clients[0].plan)
    assert result.contributors == names[:-9]
    assert result.total_weight == crew.total_weight(names[:-9])
    crew.assert_exact(mean, names[:-9])
