"""How callers go round the coordinators of one database: whom they ask next, how long they wait, and what they do not believe."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import Any

import grpc.aio
import pytest

from secagg import coordinators
from secagg.catalogue import describe, restore
from secagg.coordinators import LONGEST_HINT_SECONDS, Channels, Limit, Patience, Route
from secagg.errors import BusyError, ElsewhereError, LateError, SecAggError, StorageError, UnreachableError, UsageError

FOREVER = Limit(math.inf)
SILENT = UnreachableError("coordinator/main")


class Slept:
    """How long was slept, without sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Slept:
    made = Slept()
    monkeypatch.setattr(asyncio, "sleep", made.sleep)
    return made


def told(error: SecAggError) -> SecAggError:
    """Return an error as a call raises it that got it as an answer."""
    error.__cause__ = grpc.RpcError()
    return error


def channels(*addresses: str) -> Channels:
    return Channels(addresses, lambda address: address)  # type: ignore[arg-type,return-value]


# whom to ask next


def test_the_next_one_is_asked_when_nobody_answers_and_the_first_one_again_after_the_last() -> None:
    route = Route(channels("a:1", "b:1", "c:1"))
    seen = [route.channel]
    for _ in range(3):
        route.turn(SILENT)
        seen.append(route.channel)
    assert seen == ["a:1", "b:1", "c:1", "a:1"]


def test_who_runs_the_job_is_asked_when_another_names_it() -> None:
    route = Route(channels("a:1", "b:1", "c:1"))
    route.turn(ElsewhereError("digits", "c:1"))
    assert route.address == "c:1"


@pytest.mark.parametrize("named", ["", "evil.example:7443", "a:1"])
def test_an_address_that_the_caller_was_not_told_of_leads_nowhere(named: str) -> None:
    route = Route(channels("a:1", "b:1", "c:1"))
    route.turn(ElsewhereError("digits", named))
    assert route.address == "b:1"


@pytest.mark.parametrize("error", [BusyError("full"), StorageError("full"), LateError("late")])
def test_who_answers_is_asked_again(error: SecAggError) -> None:
    route = Route(channels("a:1", "b:1"))
    route.turn(error)
    assert route.address == "a:1"


def test_who_was_right_last_is_asked_first_the_next_time() -> None:
    every = channels("a:1", "b:1")
    Route(every).turn(SILENT)
    assert Route(every).address == "b:1"


async def test_a_channel_is_opened_when_it_is_first_needed_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    closed: list[str] = []

    class Channel:
        def __init__(self, address: str) -> None:
            self.address = address
            opened.append(address)

        async def close(self) -> None:
            closed.append(self.address)

    every = Channels(["a:1", "b:1", "a:1"], Channel)  # type: ignore[arg-type]
    assert every.addresses == ("a:1", "b:1")
    assert every.to("b:1") is every.to("b:1")
    assert opened == ["b:1"]
    await every.close()
    await every.close()
    assert closed == ["b:1"]


def test_a_caller_without_an_address_is_told_so() -> None:
    with pytest.raises(UsageError, match="no coordinator's address"):
        channels()


# how long to wait


async def test_silence_ends_in_its_error_and_begins_anew_with_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(coordinators._jitter, "uniform", lambda low, _high: low)
    monkeypatch.setattr(asyncio, "sleep", Slept().sleep)
    patience = Patience(10.0, Limit(1000.0))
    # An hour of an upload that went well is no silence.
    now[0] = 900.0
    await patience.pause(SILENT)
    now[0] = 909.0
    await patience.pause(ElsewhereError("digits"))
    now[0] = 911.0
    with pytest.raises(UnreachableError):
        await patience.pause(SILENT)
    patience.answered()
    await patience.pause(SILENT)


async def test_a_question_that_is_never_answered_is_silence_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = Patience(10.0, Limit(1000.0))
    patience.asked()
    now[0] = 40.0
    with pytest.raises(UnreachableError):
        await patience.pause(SILENT)


async def test_pauses_grow_and_differ(slept: Slept) -> None:
    patience = Patience(math.inf, FOREVER)
    for _ in range(200):
        await patience.pause(SILENT)
    assert slept.seconds[0] < 0.31
    assert 5 < max(slept.seconds[20:]) <= 7.5
    assert len(set(slept.seconds)) > 150


@pytest.mark.parametrize("error", [BusyError("full"), told(StorageError("the disk is full"))])
async def test_a_coordinator_that_answers_is_waited_for_until_the_limit(slept: Slept, error: SecAggError) -> None:
    patience = Patience(0.01, Limit(60.0))
    for _ in range(20):
        await patience.pause(error)
    with pytest.raises(type(error)):
        await Patience(100.0, Limit(0.01)).pause(error)


async def test_an_error_of_this_machine_is_not_waited_out(slept: Slept) -> None:
    for error in (StorageError("the own disk is full"), LateError("late")):
        with pytest.raises(type(error)):
            await Patience(math.inf, FOREVER).pause(error)
    assert slept.seconds == []


# hints


async def test_a_hint_is_followed_with_jitter(slept: Slept) -> None:
    patience = Patience(0.01, FOREVER)
    for _ in range(50):
        await patience.pause(BusyError("full", retry_after_seconds=20))
    assert all(20 <= seconds <= 25 for seconds in slept.seconds)
    assert len(set(slept.seconds)) > 40


async def test_a_hint_beyond_the_limit_leaves_time_for_another_try(slept: Slept) -> None:
    await Patience(0.01, Limit(10.0)).pause(BusyError("full", retry_after_seconds=30))
    assert 4 < slept.seconds[0] <= 5


LYING: tuple[Any, ...] = (-1, 0, -(10**400), 10**400, "NaN", math.nan, math.inf, -math.inf, 7.5, [1], {}, "60")


@pytest.mark.parametrize("hint", LYING, ids=repr)
async def test_a_lying_hint_does_no_harm(slept: Slept, hint: Any) -> None:
    """Whatever a coordinator sends is a busy coordinator, and no wait is longer than the bound."""
    encoded = json.dumps({"reason": "full", "retry_after_seconds": hint}).encode()
    error = restore(party="it", status="RESOURCE_EXHAUSTED", name="BusyError", text="full", fields=encoded)
    assert isinstance(error, BusyError)
    assert error.reason == "full"
    await Patience(0.01, FOREVER).pause(error)
    assert 0 < slept.seconds[0] <= 1.25 * LONGEST_HINT_SECONDS


def test_a_hint_travels() -> None:
    public = describe(BusyError("the spool is full", retry_after_seconds=9))
    back = restore(party="it", status=public.status, name=public.name, text=public.text, fields=public.fields)
    assert isinstance(back, BusyError)
    assert back.retry_after_seconds == 9
