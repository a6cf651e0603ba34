"""Rounds in which processes are killed at instants that a seed chooses: coordinator, key holder, or a client with a state directory."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from coordinator.contracts import RoundStore
from secagg.client.npz import read_arrays, write_arrays
from secagg.errors import UnknownJobError, UnknownRoundError
from secagg.ids import RoundNumber
from secagg.plan import JobSpec
from tests.crash import ckks_scenarios as ckks
from tests.crash.crash_house import DATABASES, FIRST, CrashHouse, Database
from tests.crash.masking_scenarios import ROUND_SECONDS, crew_of, late, results_of, verify_exact
from tests.crash.verifying import CKKS_CREW, verify_job
from tests.live_jobs import HOLDERS
from tests.live_process import POLL_SECONDS, LiveProcess
from tests.masking_deployment import SEVEN, Crew

MOST_EVENTS = {"masking": 34, "ckks": 24}
"""Events that an honest round keeps, or a few more."""
MOST_DELAY_SECONDS = 0.1
CLIENT = "grace"
OTHERS = tuple(name for name in SEVEN if name != CLIENT)


@dataclass(frozen=True, kw_only=True)
class Strike:
    """Who is killed, and when: once so many events are kept, or the round has ended, and a moment later."""

    victim: str
    events: int
    delay_seconds: float


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What a seed chooses."""

    protocol: Literal["masking", "ckks"]
    database: Database
    strikes: tuple[Strike, ...]


def plot_of(seed: int) -> Plot:
    """Return the same for a seed, always."""
    draw = random.Random(seed)
    protocol: Literal["masking", "ckks"] = draw.choice(("masking", "ckks"))
    database = draw.choice(DATABASES)
    # One holder may be down in a ceremony, not two.
    other = CLIENT if protocol == "masking" else draw.choice(HOLDERS)
    victims = [FIRST if draw.random() < 0.7 else other for _ in range(draw.randint(1, 3))]
    strikes = [
        Strike(
            victim=victim,
            events=draw.randint(0, MOST_EVENTS[protocol]),
            delay_seconds=draw.uniform(0.0, MOST_DELAY_SECONDS),
        )
        for victim in victims
    ]
    return Plot(protocol=protocol, database=database, strikes=tuple(sorted(strikes, key=lambda one: one.events)))


async def run_seed(house: CrashHouse, seed: int) -> None:
    """Run the round of a seed; an error names the seed, what it chose, and how to repeat it."""
    plot = plot_of(seed)
    try:
        house.heal()
        house.new_store(plot.database)
        await (_masking if plot.protocol == "masking" else _ckks)(house, plot)
    except Exception as error:
        again = "pytest tests/crash/test_random_instants.py -m soak -k 'thousand and part-0-'"
        raise AssertionError(f"seed {seed}, {plot}; repeat it with SOAK_SEED={seed} {again}: {error!r}") from error
    finally:
        await house.live.hang_up()


async def _struck(
    house: CrashHouse, spec: JobSpec, strikes: Iterable[Strike], kill: dict[str, Callable[[], None]]
) -> None:
    """Kill, and start again at once, whom the plot says when it says."""
    with closing(house.opened_store()) as store:
        for strike in strikes:
            async with asyncio.timeout(ROUND_SECONDS):
                while not await asyncio.to_thread(_is_time, store, spec, strike.events):  # noqa: ASYNC110 - as in `until`
                    await asyncio.sleep(POLL_SECONDS / 5)
            # Not for luck: the instant within a step is the seed's to choose.
            await asyncio.sleep(strike.delay_seconds)
            await asyncio.to_thread(kill[strike.victim])


def _is_time(store: RoundStore, spec: JobSpec, events: int) -> bool:
    try:
        record = store.round(spec.job, RoundNumber(1))
    except (UnknownJobError, UnknownRoundError):
        return events == 0
    return record.status.phase.ended or len(store.kept_events(spec.job, RoundNumber(1))) >= events


def _again(service: LiveProcess) -> Callable[[], None]:
    def kill_and_start() -> None:
        service.kill()
        service.start()

    return kill_and_start


async def _begun(house: CrashHouse) -> LiveProcess:
    service = house.live.services[FIRST]
    await asyncio.to_thread(house.live.start_services, [FIRST])
    return service


async def _ckks(house: CrashHouse, plot: Plot) -> None:
    service, spec = await _begun(house), ckks.one_round()
    kill = {name: _again(house.live.services[name]) for name in (FIRST, *HOLDERS)}
    striking = asyncio.create_task(_struck(house, spec, plot.strikes, kill))
    await house.create(spec)
    results = await results_of(ckks.start(house, spec))
    await striking
    await asyncio.to_thread(service.wait_until_ready)
    struck = {strike.victim for strike in plot.strikes}
    await verify_job(house, spec, results, CKKS_CREW, struck=struck)


async def _masking(house: CrashHouse, plot: Plot) -> None:
    """Seven clients, one of them a process that may be killed: what it masked counts, or it has dropped out."""
    service = await _begun(house)
    crew = crew_of(house, deadlines=late(sharing_seconds=20.0, uploading_seconds=20.0, confirming_seconds=20.0))
    own = any(strike.victim == CLIENT for strike in plot.strikes)
    client = ClientProcess(house, crew, CLIENT)
    kill = {FIRST: _again(service), CLIENT: client.kill_and_start}
    await house.create(crew.spec)
    if own:
        await client.start()
    striking = asyncio.create_task(_struck(house, crew.spec, plot.strikes, kill))
    results = await results_of(crew.start(OTHERS if own else SEVEN))
    await striking
    await asyncio.to_thread(service.wait_until_ready)
    counted = next(iter(results.values())).contributors if own else SEVEN
    assert set(OTHERS) <= set(counted)
    await verify_exact(house, crew, results, counted)
    if own:
        await client.verify(counted)


class ClientProcess:
    """``secagg client submit`` with a state directory, as a process that is killed and started again."""

    def __init__(self, house: CrashHouse, crew: Crew, name: str) -> None:
        self._house = house
        self._crew = crew
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        crew, live = self._crew, self._house.live
        update = live.directory / f"{crew.spec.job}-{self._name}.npz"
        write_arrays(update, crew.update(self._name))
        config = live.client_config(self._name, state_dir=f'"{self._house.store_directory / self._name}"')
        arguments = ["client", "submit", "--job", crew.spec.job, "--config", str(config), "--update", str(update)]
        arguments += ["--weight", str(crew.weight(self._name)), "--out", str(crew.out(self._name)), "--json"]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "secagg.cli.main", *arguments, stdout=PIPE, stderr=PIPE
        )

    def kill_and_start(self) -> None:
        """Called in a thread; the process belongs to the loop."""
        asyncio.run_coroutine_threadsafe(self._killed_and_started(), self._loop).result(ROUND_SECONDS)

    async def _killed_and_started(self) -> None:
        process = self._process
        assert process is not None
        if process.returncode is None:
            process.kill()
            await process.communicate()
            await self.start()

    async def verify(self, counted: Iterable[str]) -> None:
        """It got the mean that it is in, to the last bit, or was told that it has none."""
        process = self._process
        assert process is not None
        async with asyncio.timeout(ROUND_SECONDS):
            out, error = await process.communicate()
        if process.returncode == 0:
            assert json.loads(out)["contributors"] == list(counted)
            self._crew.assert_exact(read_arrays(self._crew.out(self._name)), counted)
        else:
            assert error.startswith(b"error") or b"dropped out" in error or b"complete" in error, error
