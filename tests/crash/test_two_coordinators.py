"""Two coordinators on one PostgreSQL and one directory of blobs: one dies, or hangs past its lease, and the other goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import MetaData, select

from coordinator.contracts import RoundStore
from secagg.client import calls
from secagg.client.calls import Coordinator
from secagg.ids import JobId
from secagg.messages.job import JobState
from secagg.plan import JobSpec
from secagg.roles.client.masking.events import MaskUpdate, SendConfirmation, SendShares, SendUnmasking
from tests.crash import ckks_scenarios as ckks
from tests.crash.crash_house import FIRST, LEASE_SECONDS, SECOND, CrashHouse
from tests.crash.masking_scenarios import ROUND_SECONDS, crew_of, late, results_of, verify_exact
from tests.crash.reviving import until
from tests.crash.verifying import CKKS_CREW, verify_job
from tests.live_process import LiveProcess
from tests.masking_deployment import SEVEN, Turns

pytestmark = pytest.mark.timeout(300)

TAKEOVER_SECONDS = 10 * LEASE_SECONDS
"""The lease, the look after it, and a machine that has much else to do."""
OVERDUE_SECONDS = 7.0
OVERDUE = late(unmasking_seconds=OVERDUE_SECONDS - 1, decrypting_seconds=OVERDUE_SECONDS - 1)
"""Who goes on with a round has ten seconds more than these; who is stopped in it has not."""
NEEDED = ("alice", "bob", "carol")
"""Without these, four clients reveal shares, and five have to."""
OTHER = {FIRST: SECOND, SECOND: FIRST}


@pytest.fixture
async def pair(house: CrashHouse, monkeypatch: pytest.MonkeyPatch) -> CrashHouse:
    """Start both at once on an empty database: one of them makes its tables."""
    # A coordinator that hangs answers nothing: who calls it finds out within seconds, as by its keepalive in a minute.
    honest = Coordinator.ask

    async def ask(self: Coordinator, call: Any, limit: Any, *, seconds: float = 4.0) -> Any:
        return await honest(self, call, limit, seconds=min(seconds, 4.0))

    monkeypatch.setattr(Coordinator, "ask", ask)
    monkeypatch.setattr(calls, "POLL_SECONDS", 2.0)
    house.new_store("postgresql", (FIRST, SECOND))
    await asyncio.to_thread(house.live.start_services, (FIRST, SECOND))
    return house


def owner_of(house: CrashHouse, store: RoundStore, job: JobId) -> str | None:
    """Return which of the two has a job's lease."""
    lease = store.lease_of(job)
    names = {house.live.ports[name].address: name for name in (FIRST, SECOND)}
    return None if lease is None else names[lease.address]


def service(house: CrashHouse, name: str) -> LiveProcess:
    return house.live.services[name]


async def taken_over(house: CrashHouse, store: RoundStore, spec: JobSpec, former: str) -> str:
    """Wait until the other one has the lease; return its name."""
    began, heir = time.monotonic(), OTHER[former]
    await until(lambda: owner_of(house, store, spec.job) == heir, f"{heir} takes over", ROUND_SECONDS)
    assert time.monotonic() - began < TAKEOVER_SECONDS
    return heir


def rows_of(house: CrashHouse) -> dict[str, list[Any]]:
    """Return every row of every table but the leases, which are renewed."""
    with house.writing() as connection:
        tables = MetaData()
        tables.reflect(connection)
        return {
            name: sorted(map(repr, connection.execute(select(table))))
            for name, table in tables.tables.items()
            if name != "leases"
        }


async def wakes_to_nothing(house: CrashHouse, name: str, *, frozen: JobSpec) -> None:
    """Wake a coordinator that hung past its lease: it changes no row and no blob, and says that it lost the lease.

    Its deadlines have passed meanwhile, so that it wakes with events to store.
    """
    await overdue(house, frozen)
    rows, blobs = rows_of(house), house.blob_files()
    await wakes(house, name, frozen)
    # What was on its way when it was stopped may still reach the disk, and goes again.
    await until(lambda: house.blob_files() == blobs, f"nothing of {name} is left among the blobs")
    assert rows_of(house) == rows


async def wakes_inside(house: CrashHouse, name: str, frozen: JobSpec) -> None:
    """Wake a coordinator in a round that the other one runs now: what it would do at its deadline, it may not."""
    await overdue(house, frozen)
    rows = rows_of(house)
    await wakes(house, name, frozen)
    assert rows_of(house) == rows


async def wakes(house: CrashHouse, name: str, frozen: JobSpec) -> None:
    """Wake a coordinator, which says that it lost the lease and has left the round."""
    seen = len(service(house, name).lines())
    service(house, name).thaw()

    def noted() -> bool:
        lines = [line for line in service(house, name).lines()[seen:] if line.get("job") == frozen.job]
        return {"lease lost", "round suspended"} <= {line["event"] for line in lines}

    await until(noted, f"{name} notes that it lost the lease")


async def overdue(house: CrashHouse, spec: JobSpec) -> None:
    """Wait until the deadline of the phase in which a coordinator was stopped has passed."""
    with closing(house.opened_store()) as store:
        last = store.last_round(spec.job)
    assert last is not None
    phases = {phase: at for phase, at in last.status.phase_started.items() if not phase.ended}
    due = max(phases.values()) + OVERDUE_SECONDS
    await until(lambda: time.time() > due, "its deadline has passed", 2 * OVERDUE_SECONDS)


async def stands_by(house: CrashHouse, name: str) -> None:
    """The one that was woken takes over when the other dies."""
    service(house, OTHER[name]).kill()
    crew = crew_of(house)
    await house.create(crew.spec)
    results = await results_of(crew.start(SEVEN))
    with closing(house.opened_store()) as store:
        await until(lambda: store.job(crew.spec.job).state is JobState.COMPLETE, "the job is complete")
    for result in results.values():
        crew.assert_result(result, SEVEN)


async def masking_round(
    house: CrashHouse,
    monkeypatch: pytest.MonkeyPatch,
    effect: type,
    strike: Callable[[LiveProcess], None],
    *,
    woken: bool = False,
) -> tuple[str, JobSpec]:
    """Strike the owner of a masking round while some wait with a step; return its name, and the job once it is published.

    With ``woken``, it wakes while the other one runs the round, with the deadline of its phase passed.
    """
    crew, turns = crew_of(house, deadlines=OVERDUE), Turns(monkeypatch)
    held = [turns.hold(name, effect) for name in NEEDED]
    with closing(house.opened_store()) as store:
        await house.create(crew.spec)
        tasks = crew.start(SEVEN)
        async with asyncio.timeout(ROUND_SECONDS):
            await asyncio.gather(*(turn.reached.wait() for turn in held))
        owner = owner_of(house, store, crew.spec.job)
        assert owner is not None
        strike(service(house, owner))
        await taken_over(house, store, crew.spec, owner)
        if woken:
            await wakes_inside(house, owner, crew.spec)
        for turn in held:
            turn.allowed.set()
        results = await results_of(tasks)
    await verify_exact(house, crew, results, SEVEN)
    return owner, crew.spec


async def ckks_round(house: CrashHouse, strike: Callable[[LiveProcess], None]) -> tuple[str, JobSpec]:
    """Strike the owner of a round of ckks while west waits with its answer; as `masking_round`."""
    spec = ckks.one_round(deadlines=OVERDUE)
    house.straggle(spec.job)
    with closing(house.opened_store()) as store:
        await house.create(spec)
        tasks = ckks.start(house, spec)
        await until(lambda: answers_of(store, spec) >= 4, "four answers, and west's is missing", ROUND_SECONDS)
        owner = owner_of(house, store, spec.job)
        assert owner is not None
        strike(service(house, owner))
        await taken_over(house, store, spec, owner)
        house.release(spec.job)
        results = await results_of(tasks)
    await verify_job(house, spec, results, CKKS_CREW)
    return owner, spec


def answers_of(store: RoundStore, spec: JobSpec) -> int:
    last = store.last_round(spec.job)
    return 0 if last is None else last.status.answers


async def test_the_other_goes_on_when_the_owner_of_a_masking_round_is_killed(
    pair: CrashHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await masking_round(pair, monkeypatch, SendConfirmation, LiveProcess.kill)


async def test_the_other_goes_on_when_the_owner_of_a_round_of_ckks_is_killed(pair: CrashHouse) -> None:
    await ckks_round(pair, LiveProcess.kill)


async def test_an_owner_of_a_masking_round_that_wakes_after_its_lease_does_nothing(
    pair: CrashHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, _ = await masking_round(pair, monkeypatch, SendUnmasking, LiveProcess.freeze, woken=True)
    await stands_by(pair, owner)


async def test_an_owner_of_a_round_of_ckks_that_wakes_after_its_lease_does_nothing(pair: CrashHouse) -> None:
    owner, spec = await ckks_round(pair, LiveProcess.freeze)
    await wakes_to_nothing(pair, owner, frozen=spec)
    await stands_by(pair, owner)


@pytest.mark.soak
@pytest.mark.parametrize("strike", [LiveProcess.kill, LiveProcess.freeze])
@pytest.mark.parametrize("effect", [SendShares, MaskUpdate, SendConfirmation, SendUnmasking])
async def test_every_phase_of_a_masking_round(
    pair: CrashHouse, monkeypatch: pytest.MonkeyPatch, effect: type, strike: Callable[[LiveProcess], None]
) -> None:
    owner, spec = await masking_round(pair, monkeypatch, effect, strike)
    if strike is LiveProcess.freeze:
        await wakes_to_nothing(pair, owner, frozen=spec)
        await stands_by(pair, owner)
