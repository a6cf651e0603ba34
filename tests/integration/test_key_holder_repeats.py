"""A call that comes again gets the first answer, also while the first is being worked on, and when its caller went away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.rounds.calls import ContributorPart
from secagg.errors import UnreachableError
from secagg.key_holder.server import KeyHolderServer
from secagg.messages.ceremony import DealingBundle
from tests.holder_material import ceremony_plan
from tests.key_holder_house import HOLDERS, NORTH, SECONDS, SPEC, House, opening_of, parts_of
from tests.lying_holder import for_receiver
from tests.pki_material import deployment

LIMIT_SECONDS = 10.0


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(directory=tmp_path / "holders", made=deployment(tmp_path / "pki"))
    made.directory.mkdir()
    for holder in HOLDERS:
        await made.start(holder)
    yield made
    await made.close()


class Hold:
    """Holds up one method of a holder's store, in its thread, as a slow disk would."""

    def __init__(self, server: KeyHolderServer, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._entered, self._go = threading.Event(), threading.Event()
        store = server._store
        real: Callable[..., Any] = getattr(store, method)

        def slow(*arguments: Any, **options: Any) -> Any:
            self._entered.set()
            assert self._go.wait(SECONDS)
            return real(*arguments, **options)

        monkeypatch.setattr(store, method, slow)

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, SECONDS)

    def release(self) -> None:
        self._go.set()


async def gone(call: asyncio.Task[Any]) -> None:
    """Let a caller go away in the middle of its call."""
    call.cancel()
    with pytest.raises((asyncio.CancelledError, UnreachableError)):
        await call


async def test_everything_asked_twice_at_once_gets_one_answer(house: House) -> None:
    plan = ceremony_plan(SPEC)
    calls = [house.pool().calls[holder] for holder in HOLDERS]
    options = {"timeout_seconds": SECONDS}

    async def twice(make: Callable[[Any], Any]) -> tuple[Any, ...]:
        answers = [await asyncio.gather(make(one), make(one)) for one in calls]
        for first, second in answers:
            assert said(first) == said(second)
        return tuple(first for first, _ in answers)

    hellos = await twice(lambda one: one.begin_ceremony(plan, **options))
    commitments = await twice(lambda one: one.commit_key(plan.digest, hellos, **options))
    dealings = await twice(lambda one: one.deal_shares(plan.digest, commitments, **options))
    trials = await twice(lambda one: one.try_key(plan.digest, for_receiver(dealings, one.holder), **options))
    await twice(lambda one: one.certify_key(plan.digest, trials, **options))
    store = house.stored(NORTH)
    assert len(store.shares()) == 1
    store.close()

    opening = await opening_of(house, round=2)
    roster = opening.request.roster
    await twice(lambda one: one.seal_roster(opening.plan, roster, **options))
    approvals = await twice(lambda one: one.approve(opening.request, parts_of(opening.c1()), **options))
    (first, again), _, _ = [
        await asyncio.gather(opening.decrypt(holder, approvals), opening.decrypt(holder, approvals))
        for holder in HOLDERS
    ]
    assert first == again
    await twice(lambda one: one.end_round(opening.ceremony, **options))


def said(answer: Any) -> Any:
    """What was signed, and what travels beside it: of two signatures of one message, nobody asks which."""
    if isinstance(answer, DealingBundle):
        return answer.dealing.message, answer.sealed
    if isinstance(answer, tuple):
        return answer[0].message, answer[1]
    trial = getattr(answer, "trial", None)
    return (trial.message, answer.answer) if trial else getattr(answer, "message", answer)


async def test_a_caller_that_goes_away_while_its_ceremony_is_recorded_finds_it_begun(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ceremony_plan(SPEC)
    calls = house.pool().calls[NORTH]
    hold = Hold(house.servers[NORTH], "record_ceremony", monkeypatch)
    call = asyncio.ensure_future(calls.begin_ceremony(plan, timeout_seconds=SECONDS))
    await hold.entered()
    await gone(call)
    hold.release()
    first = await calls.begin_ceremony(plan, timeout_seconds=SECONDS)
    assert (await calls.begin_ceremony(plan, timeout_seconds=SECONDS)).message == first.message


async def test_a_caller_that_goes_away_while_its_request_is_recorded_finds_it_approved(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = await opening_of(house)
    hold = Hold(house.servers[NORTH], "record_approval", monkeypatch)
    call = asyncio.ensure_future(opening.approve(NORTH))
    await hold.entered()
    await gone(call)
    hold.release()
    approvals = [await opening.approve(NORTH, []), *[await opening.approve(holder) for holder in HOLDERS[1:]]]
    assert approvals[0].message.request_digest == opening.digest
    await opening.decrypt(NORTH, approvals)


async def test_an_end_that_comes_while_the_share_is_stored_destroys_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = Hold(house.servers[NORTH], "save_share", monkeypatch)
    making = asyncio.ensure_future(opening_of(house))
    await hold.entered()
    (held,) = house.servers[NORTH]._book.rounds
    ending = asyncio.ensure_future(house.pool().calls[NORTH].end_round(held.ceremony_digest, timeout_seconds=SECONDS))
    await asyncio.sleep(0.2)  # long enough for the call to wait for its turn; it is right, too, if it comes later
    hold.release()
    await making
    await ending
    store = house.stored(NORTH)
    assert store.shares() == ()
    store.close()


async def test_a_stream_that_stops_holds_no_place(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secagg.key_holder.reading.SILENCE_SECONDS", 0.3)
    opening = await opening_of(house)
    stopped = asyncio.Event()

    async def parts() -> AsyncIterator[ContributorPart]:
        async for part in parts_of(opening.c1()[:1]):
            yield part
        await stopped.wait()

    with pytest.raises(UnreachableError, match="sent nothing"):
        await opening.pool.calls[NORTH].approve(opening.request, parts(), timeout_seconds=SECONDS)
    stopped.set()
    assert (await opening.approve(NORTH)).message.request_digest == opening.digest


async def test_a_holder_that_drains_waits_for_no_stream_for_ever_and_loses_nothing(house: House) -> None:
    opening = await opening_of(house)
    begun, never = asyncio.Event(), asyncio.Event()

    async def parts() -> AsyncIterator[ContributorPart]:
        async for part in parts_of(opening.c1()[:1]):
            yield part
            begun.set()
        await never.wait()

    call = asyncio.ensure_future(opening.pool.calls[NORTH].approve(opening.request, parts(), timeout_seconds=SECONDS))
    await begun.wait()
    async with asyncio.timeout(LIMIT_SECONDS):
        await house.servers.pop(NORTH).stop(0.5)
    with pytest.raises(UnreachableError):
        await call
    await house.start(NORTH)
    opening.pool = house.pool()
    assert (await opening.approve(NORTH)).message.request_digest == opening.digest
