"""Masking rounds in which processes die: what clients do meanwhile, and what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from coordinator.contracts import ContributionState
from coordinator.store.tables import KEPT_EVENTS, ROUNDS
from secagg.client.masking_steps import MaskingSteps
from secagg.client.transfer import Uploader
from secagg.client.uploads import VectorUpload
from secagg.errors import FaultyClientError, LateError, RoundAbortedError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase
from secagg.plan import Deadlines
from secagg.roles.client.masking.events import SendUnmasking
from tests.crash.crash_house import FIRST, CrashHouse
from tests.crash.reviving import Reviver, dying_at, until
from tests.crash.verifying import verify_job
from tests.files_on_disk import files_under
from tests.live_jobs import live_deadlines
from tests.masking_deployment import SEVEN, Crew, Departure, Turns, grid_job

ROUND_SECONDS = 180.0
"""Of a round that dies at several points, on a machine that has much else to do."""


def crew_of(house: CrashHouse, **changes: Any) -> Crew:
    """Return the clients of a job of one round that is yet to be made."""
    return Crew(live=house.live, spec=grid_job(**{"rounds": 1, "deadlines": late(), **changes}), names=SEVEN)


def late(**changes: float) -> Deadlines:
    """Return deadlines that never matter, however slow the machine is, but for these."""
    return live_deadlines(**{**dict.fromkeys(Deadlines.__dataclass_fields__, ROUND_SECONDS), **changes})


async def results_of(tasks: dict[str, asyncio.Task[Any]]) -> dict[str, Any]:
    """Return what every client got, errors included."""
    async with asyncio.timeout(ROUND_SECONDS):
        got = await asyncio.gather(*tasks.values(), return_exceptions=True)
    return dict(zip(tasks, got, strict=True))


async def verify_exact(
    house: CrashHouse, crew: Crew, results: dict[str, Any], names: Iterable[str], **more: Any
) -> None:
    """Hold a published round against its store, and its mean against plain averaging, bit for bit."""
    chosen = tuple(sorted(names))
    for result in results.values():
        crew.assert_result(result, chosen)
    await verify_job(house, crew.spec, results, chosen, **more)


async def plain(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven clients take part, and nobody does wrong."""
    crew = crew_of(house)
    async with dying_at(house.live.services[FIRST], points):
        await house.create(crew.spec)
        watching = asyncio.ensure_future(house.reached(crew.spec, Phase.PUBLISHED))
        results = await results_of(crew.start(SEVEN))
        await watching
    await verify_exact(house, crew, results, SEVEN)


async def departing(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Grace vanishes before her vector counts, frank once his does: the uploads end by their deadline."""
    crew = crew_of(house, deadlines=late(uploading_seconds=3.0))
    vanished = ending_before_it_counts(monkeypatch, "grace")
    staying = [name for name in SEVEN if name not in ("frank", "grace")]
    async with dying_at(house.live.services[FIRST], points):
        await house.create(crew.spec)
        leaving = [
            asyncio.ensure_future(crew.take_part("grace")),
            asyncio.ensure_future(crew.take_part("frank", Departure.BEFORE_CONFIRMING)),
        ]
        revealing = Turns(monkeypatch).hold("alice", SendUnmasking)
        tasks = crew.start(staying)
        async with asyncio.timeout(ROUND_SECONDS):
            await revealing.reached.wait()
        # With her mask key open, grace's vector would be bare, and all of it had arrived.
        assert vanished == ["grace"]
        assert not [name for name in house.blob_files() if "grace" in name]
        revealing.allowed.set()
        results = await results_of(tasks)
        await asyncio.gather(*leaving, return_exceptions=True)
    await verify_exact(house, crew, results, [*staying, "frank"])


def ending_before_it_counts(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Let a client end when all of its vector has arrived, and before it asks to have it counted; return who has."""
    honest = Uploader._complete
    ended: list[str] = []

    async def complete(uploader: Uploader, limit: Any) -> None:
        if name.encode() in uploader._upload.signed.payload:  # type: ignore[attr-defined]
            ended.append(name)
            raise asyncio.CancelledError
        await honest(uploader, limit)

    monkeypatch.setattr(Uploader, "_complete", complete)
    return ended


async def refused(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frank's disk flips a bit after he has signed: his vector is refused, and the others' sum is published."""
    honest = VectorUpload.read

    def read(upload: VectorUpload, stretch: int, offset: int, length: int) -> bytes:
        data = honest(upload, stretch, offset, length)
        return bytes([data[0] ^ 1]) + data[1:] if b"frank" in upload.signed.payload and not offset else data

    monkeypatch.setattr(VectorUpload, "read", read)
    crew = crew_of(house)
    async with dying_at(house.live.services[FIRST], points):
        await house.create(crew.spec)
        results = await results_of(crew.start(SEVEN))
    # Where his refusal closed the uploads, he may be told of it once, and then that he is late.
    assert isinstance(results.pop("frank"), FaultyClientError | LateError | RoundAbortedError)
    await verify_exact(house, crew, results, results)


async def garbled_shares(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Erin reveals shares that do not fit, and only so many that nobody can tell: two more have to come."""
    honest = MaskingSteps.carry_out

    async def carry_out(steps: MaskingSteps, effect: Any) -> Any:
        if isinstance(effect, SendUnmasking) and steps._exchange.identity.party.name == "erin":
            shares = tuple(bytes([one[0] ^ 1, *one[1:]]) if one else one for one in effect.unmasking.shares)
            effect = replace(effect, unmasking=replace(effect.unmasking, shares=shares))
        return await honest(steps, effect)

    monkeypatch.setattr(MaskingSteps, "carry_out", carry_out)
    turns = Turns(monkeypatch)
    held = [turns.hold(name, SendUnmasking) for name in ("frank", "grace")]
    crew = crew_of(house)
    async with dying_at(house.live.services[FIRST], points) as reviver:
        await house.create(crew.spec)
        tasks = crew.start(SEVEN)
        await fired(reviver, tasks)
        for turn in held:
            turn.allowed.set()
        results = await results_of(tasks)
    await verify_exact(house, crew, results, SEVEN)


async def fired(reviver: Reviver, tasks: dict[str, asyncio.Task[Any]]) -> None:
    """Wait for the last death; fail at once with what a client says that ended before."""
    dying = asyncio.ensure_future(reviver.all_fired())
    await asyncio.wait([dying, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
    assert dying.done(), {name: task for name, task in tasks.items() if task.done()}
    dying.result()


async def few(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients came in time: the round ends without a result, once, and the next one is published."""
    crew = crew_of(house, deadlines=late(open_seconds=4.0))
    async with dying_at(house.live.services[FIRST], points):
        await house.create(crew.spec)
        early = await results_of(crew.start(SEVEN[:2]))
    assert all(isinstance(one, RoundAbortedError) for one in early.values()), early
    await next_round(house, crew, "too few clients joined in time")


async def next_round(house: CrashHouse, crew: Crew, reason: str) -> None:
    """The round after an aborted one is published, as if nothing had been."""
    results = await results_of(crew.start(SEVEN, after=1))
    await verify_exact(house, crew, results, SEVEN, aborted=[reason])


async def lost_vector(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes a vector beneath a dead coordinator: the round cannot be published, and says so; the next one is."""
    crew = crew_of(house)

    def lose(point: str) -> None:
        if point == points[0]:
            for path in vectors_of(house, crew.spec.job, counted_in(house, crew.spec.job)):
                path.unlink()

    async with dying_at(house.live.services[FIRST], points, lose):
        await house.create(crew.spec)
        early = await results_of(crew.start(SEVEN))
    assert all(isinstance(one, RoundAbortedError) for one in early.values()), early
    await next_round(house, crew, "is gone from the coordinator's blob store")


async def unreadable(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The database of a dead coordinator is damaged: a round that cannot be read back ends, once; the next one is published."""
    crew = crew_of(house)

    def damage(point: str) -> None:
        if point == points[0]:
            with house.writing() as connection:
                first = KEPT_EVENTS.c.sequence == 1
                assert connection.execute(update(KEPT_EVENTS).where(first).values(content=b"damaged")).rowcount == 1

    async with dying_at(house.live.services[FIRST], points, damage):
        await house.create(crew.spec)
        early = await results_of(crew.start(SEVEN))
    assert all(isinstance(one, RoundAbortedError) for one in early.values()), early
    await next_round(house, crew, "it could not be read back")


async def asked_twice(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frank's process ends once his vector counts, and before he has taken note of it: the next one asks again."""
    honest = Uploader._complete
    ended: list[str] = []

    async def complete(uploader: Uploader, limit: Any) -> None:
        await honest(uploader, limit)
        if b"frank" in uploader._upload.signed.payload and not ended:  # type: ignore[attr-defined]
            ended.append("frank")
            # At once: a cancelled task would take note at its next step.
            raise asyncio.CancelledError

    monkeypatch.setattr(Uploader, "_complete", complete)
    crew, state = crew_of(house), house.store_directory / "frank"
    async with dying_at(house.live.services[FIRST], points):
        await house.create(crew.spec)
        tasks = crew.start(name for name in SEVEN if name != "frank")
        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(crew.take_part("frank", state_dir=state))
        tasks["frank"] = asyncio.ensure_future(crew.take_part("frank", state_dir=state))
        results = await results_of(tasks)
    assert ended == ["frank"]
    assert results["frank"].resumed
    await verify_exact(house, crew, results, SEVEN)


async def purged(house: CrashHouse, points: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of a round is due when a coordinator starts, which dies over it: one receipt is left, and no mean."""
    crew = crew_of(house)
    async with dying_at(house.live.services[FIRST], ()):
        await house.create(crew.spec)
        results = await results_of(crew.start(SEVEN))
    await verify_exact(house, crew, results, SEVEN)
    with house.writing() as connection:
        connection.execute(update(ROUNDS).values(ended_at=ROUNDS.c.ended_at - 3 * 86_400))
    house.live.coordinator_config(FIRST, **{"retention.record_days": "1"})
    async with dying_at(house.live.services[FIRST], points):
        pass
    with closing(house.opened_store()) as store:
        await until(lambda: store.round(crew.spec.job, RoundNumber(1)).status.purged, "the round is purged")
        assert len(store.receipts(crew.spec.job)) == 1
    assert house.blob_files() == set()


def counted_in(house: CrashHouse, job: JobId) -> str:
    """Return one client whose vector counts in the first round of a job."""
    with closing(house.opened_store()) as store:
        contributions = store.round(job, RoundNumber(1)).contributions
    return next(one.client for one in contributions if one.state is ContributionState.UPLOADED)


def vectors_of(house: CrashHouse, job: JobId, client: str) -> list[Any]:
    """Return the files of a client's upload."""
    found = [path for path in files_under(house.blobs) if {job, client} <= {*path.parts}]
    assert found, f"{client} has uploaded nothing"
    return found
