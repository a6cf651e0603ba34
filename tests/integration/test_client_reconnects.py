"""Processes that are killed in a round, and clients that go on: a coordinator that comes back, a client that drops out cleanly.

A client that was killed with a ``state_dir`` goes on with its masking round. Every other one has dropped out, and another process
of it takes part in a later round by itself: with a ciphertext, and a commitment, of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secagg.client import AsyncClient, Progress, RoundResult
from secagg.client.asynchronous import configured
from secagg.client.npz import read_arrays, write_arrays
from secagg.messages.round import Phase
from secagg.plan import JobSpec, TensorSpec
from tests.cutting_proxy import cutting_proxy
from tests.files_on_disk import contents_under
from tests.live_deployment import ROUND_SECONDS, LiveDeployment, visited
from tests.live_jobs import (
    error_bound,
    largest_error,
    live_deadlines,
    live_job,
    live_masking_job,
    updates_of,
    weights_of,
)
from tests.masking_deployment import Crew, grid_job, send_small_parts
from tests.round_cluster import eventually

CKKS = ("alice", "bob", "carol")
MASKING = ("alice", "bob", "carol", "dave", "erin")
PART_BYTES = 1 << 20
MIDDLE = 2 * PART_BYTES + PART_BYTES // 2
"""More than a join and two parts, and less than any upload here."""
JOINED_BEFORE = "round 1 was joined before, by a process of this client that is not this one"
SHORT = live_deadlines(uploading_seconds=6.0)
HALVES = (TensorSpec(name="w", shape=(200_000,), dtype="float32"),)
VECTOR = (TensorSpec(name="w", shape=(1_500_000,), dtype="float32"),)
"""Some 5 MB of ciphertext, and of a masked vector."""


@pytest.fixture(scope="module")
def masking_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("masking"), holders=())
    # The next process of a coordinator that was killed takes over soon.
    made.settings["coordinator"]["lease_seconds"] = "2"
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
async def masking(masking_house: LiveDeployment) -> AsyncIterator[LiveDeployment]:
    async with visited(masking_house) as deployment:
        yield deployment


class Submission:
    """``secagg client submit`` for a client of a job, in a process of its own."""

    def __init__(self, live: LiveDeployment, spec: JobSpec, names: tuple[str, ...], name: str) -> None:
        self._live = live
        self._spec = spec
        self._name = name
        self._weight = weights_of(names)[name]
        self._update = live.directory / f"{spec.job}-{name}.npz"
        self.out = live.directory / f"{spec.job}-{name}-mean.npz"
        write_arrays(self._update, updates_of(spec, [name])[name])

    async def start(self, *options: str) -> Process:
        arguments = ["client", "submit", "--job", self._spec.job, "--update", str(self._update), "--out", str(self.out)]
        arguments += ["--weight", str(self._weight), "--config", str(self._live.client_config(self._name)), "--json"]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "secagg.cli.main", *arguments, *options, stdout=PIPE, stderr=PIPE
        )


async def finished(process: Process) -> dict[str, Any]:
    """Return what a submission printed for scripts."""
    async with asyncio.timeout(ROUND_SECONDS):
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    printed: dict[str, Any] = json.loads(out)
    return printed


async def killed(process: Process) -> None:
    process.kill()
    await process.wait()


async def joined(live: LiveDeployment, spec: JobSpec, count: int) -> None:
    operator = live.operator()
    async with asyncio.timeout(ROUND_SECONDS):
        async for status in operator.watch_rounds(spec.job, 1):  # type: ignore[arg-type]
            if status.joined >= count:
                return


def rest_of(live: LiveDeployment, spec: JobSpec, names: tuple[str, ...], after: int) -> Any:
    """Let everybody but alice take part in the next round."""
    updates, weights = updates_of(spec, names), weights_of(names)
    return asyncio.gather(
        *(
            live.client(name).participate(spec.job, updates[name], weights[name], after_round=after)
            for name in names[1:]
        )
    )


def hold(spec: JobSpec, mean: Any, names: tuple[str, ...], everybody: tuple[str, ...]) -> None:
    weights = {name: weights_of(everybody)[name] for name in names}
    error = largest_error(mean, updates_of(spec, names).values(), weights.values())
    assert error < error_bound(spec, weights)


async def said(process: Process) -> str:
    """Return the first line that it tells people."""
    assert process.stderr is not None
    async with asyncio.timeout(ROUND_SECONDS):
        return (await process.stderr.readline()).decode()


async def both_rounds(live: LiveDeployment, spec: JobSpec, names: tuple[str, ...], again: Process) -> None:
    """Hold round 1 to be one without alice, and round 2 one with her second process, which waits for it and says so."""
    assert await said(again) == f"Waiting for a later round: {JOINED_BEFORE}.\n"
    for result in await rest_of(live, spec, names, 0):
        assert result.contributors == names[1:]
        hold(spec, result.mean, names[1:], names)
    others = await rest_of(live, spec, names, 1)
    told = await finished(again)
    assert (told["round"], tuple(told["contributors"]), told["resumed"]) == (2, names, False)
    hold(spec, read_arrays(Path(told["out"])), names, names)
    assert all(result.contributors == names for result in others)


def bytes_at(live: LiveDeployment, spec: JobSpec, name: str) -> int:
    """Return how much of a client's upload lies at the coordinator."""
    uploads = live.directory / "coordinator" / "blobs" / "uploads" / spec.job
    return sum(len(data) for path, data in contents_under(uploads).items() if name in path.relative_to(uploads).parts)


# ckks


async def test_a_ckks_client_killed_after_its_join_takes_part_in_a_later_round(live: LiveDeployment) -> None:
    spec = await live.create(live_job(rounds=2, deadlines=SHORT))
    alice = Submission(live, spec, CKKS, "alice")
    first = await alice.start()
    await joined(live, spec, 1)
    await killed(first)
    assert list(live.spool("alice").iterdir()) == []
    again = await alice.start()
    await both_rounds(live, spec, CKKS, again)


async def test_a_ckks_client_killed_in_its_upload_takes_part_in_a_later_round(live: LiveDeployment) -> None:
    spec = await live.create(live_job(tensors=HALVES, rounds=2, deadlines=SHORT))
    alice = Submission(live, spec, CKKS, "alice")
    async with cutting_proxy(live.ports["coordinator"].number, hold_after=MIDDLE) as proxy:
        first = await alice.start("--coordinator", proxy.address)
        others = asyncio.ensure_future(rest_of(live, spec, CKKS, 0))
        await asyncio.wait_for(proxy.held.wait(), ROUND_SECONDS)
        await killed(first)
    again = await alice.start()
    for result in await others:
        assert result.contributors == CKKS[1:]
    assert all(result.contributors == CKKS for result in await rest_of(live, spec, CKKS, 1))
    told = await finished(again)
    assert (told["round"], tuple(told["contributors"])) == (2, CKKS)
    hold(spec, read_arrays(alice.out), CKKS, CKKS)


# masking


async def test_a_masking_client_killed_after_its_join_takes_part_in_a_later_round(masking: LiveDeployment) -> None:
    """It kept nothing: the secrets that it joined with are gone."""
    spec = await masking.create(live_masking_job(rounds=2, deadlines=live_deadlines(sharing_seconds=6.0)))
    alice = Submission(masking, spec, MASKING, "alice")
    first = await alice.start()
    await joined(masking, spec, 1)
    await killed(first)
    again = await alice.start()
    await both_rounds(masking, spec, MASKING, again)


async def test_a_masking_client_killed_in_its_upload_goes_on_with_the_rest_of_it(
    masking: LiveDeployment, tmp_path: Path
) -> None:
    spec = await masking.create(live_masking_job(tensors=VECTOR))
    size, port = spec.masking_parameters.vector_bytes, masking.ports["coordinator"].number
    alice, state = Submission(masking, spec, MASKING, "alice"), ("--state-dir", str(tmp_path / "state"))
    async with cutting_proxy(port, hold_after=MIDDLE) as proxy:
        first = await alice.start("--coordinator", proxy.address, *state)
        others = asyncio.ensure_future(rest_of(masking, spec, MASKING, 0))
        await asyncio.wait_for(proxy.held.wait(), ROUND_SECONDS)
        await eventually(lambda: bytes_at(masking, spec, "alice") >= PART_BYTES)
        await killed(first)
    async with cutting_proxy(port) as proxy:
        told = await finished(await alice.start("--coordinator", proxy.address, *state))
        assert proxy.upward < size - PART_BYTES
    assert (told["round"], tuple(told["contributors"]), told["resumed"]) == (1, MASKING, True)
    hold(spec, read_arrays(alice.out), MASKING, MASKING)
    assert all(result.contributors == MASKING for result in await others)


# a coordinator that is killed and comes back


KILLS: dict[str, Callable[[Progress], bool]] = {
    "open": lambda progress: progress.phase is Phase.OPEN,
    "uploading": lambda progress: progress.phase is Phase.UPLOADING and 0 < progress.done < progress.total,
    "unmasking": lambda progress: progress.phase is Phase.UNMASKING,
}


@pytest.mark.parametrize("moment", KILLS)
async def test_clients_outlast_a_coordinator_that_is_killed(
    masking: LiveDeployment, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Nobody who calls the SDK sees anything of it; the first of two addresses is one where nobody listens."""
    send_small_parts(monkeypatch)
    crew = await Crew.of(masking, grid_job())
    restarting: list[asyncio.Task[None]] = []

    def watch(progress: Progress) -> None:
        if not restarting and KILLS[moment](progress):
            restarting.append(asyncio.create_task(restart(masking)))

    async with asyncio.timeout(ROUND_SECONDS):
        results = await asyncio.gather(*(submit(crew, name, watch) for name in crew.names))
    assert restarting
    await restarting[0]
    for result in results:
        crew.assert_result(result, crew.names)


async def restart(live: LiveDeployment) -> None:
    await asyncio.to_thread(live.coordinator.kill)
    await asyncio.to_thread(live.start_services, ["coordinator"])


async def submit(crew: Crew, name: str, progress: Callable[[Progress], None]) -> RoundResult:
    arguments = configured(crew.live.client_config(name))
    async with AsyncClient(**{**arguments, "address": ["127.0.0.1:1", crew.live.address]}) as client:
        return await client.participate(crew.spec.job, crew.update(name), crew.weight(name), progress=progress)
