"""Waiting with a limit, and no more waiters than allowed."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from contextvars import ContextVar

import pytest

from coordinator.contracts import Limits
from coordinator.pushback import WAITING_CALL_SECONDS
from coordinator.rounds.changes import CALLS_PER_CALLER, Changes, WaitingRoom
from secagg.errors import BusyError


async def test_what_holds_already_is_not_waited_for() -> None:
    assert await Changes().wait_until(lambda: True, 0)


async def test_time_passes() -> None:
    assert not await Changes().wait_until(lambda: False, 0.01)


async def test_a_change_wakes_everybody() -> None:
    changes, open_ = Changes(), [False]
    waiters = [asyncio.create_task(changes.wait_until(lambda: open_[0], 20)) for _ in range(3)]
    await asyncio.sleep(0)
    changes.notify()
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    open_[0] = True
    changes.notify()
    assert await asyncio.gather(*waiters) == [True] * 3


async def test_only_those_are_woken_for_whom_something_changed() -> None:
    """A condition is looked at once for all changes of a turn, in the context of the one who waits."""
    changes, open_, whose = Changes(), [False], ContextVar[str]("whose")
    seen: list[str] = []

    def holds() -> bool:
        seen.append(whose.get())
        return open_[0]

    async def waiting(name: str) -> bool:
        whose.set(name)
        return await changes.wait_until(holds, 20)

    waiters = [asyncio.create_task(waiting(name)) for name in ("alice", "bob")]
    await asyncio.sleep(0)
    for _ in range(5):
        changes.notify()
    await asyncio.sleep(0)
    assert seen == ["alice", "bob"] * 2
    open_[0] = True
    changes.notify()
    assert await asyncio.gather(*waiters) == [True, True]


async def test_a_condition_that_fails_is_raised_to_the_one_who_waits_for_it() -> None:
    changes, broken = Changes(), [False]

    def holds() -> bool:
        if broken[0]:
            raise LookupError
        return False

    failing = asyncio.create_task(changes.wait_until(holds, 20))
    other = asyncio.create_task(changes.wait_until(lambda: broken[0], 20))
    await asyncio.sleep(0)
    broken[0] = True
    changes.notify()
    assert await other
    with pytest.raises(LookupError):
        await failing


async def test_who_gave_up_is_not_looked_at_again() -> None:
    changes = Changes()
    cancelled = asyncio.create_task(changes.wait_until(lambda: False, 20))
    await asyncio.sleep(0)
    changes.notify()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert not await changes.wait_until(lambda: False, 0.01)
    changes.notify()
    assert await changes.wait_until(lambda: True, 0)


async def test_what_held_for_a_moment_only_is_waited_for_again() -> None:
    changes, moments = Changes(), iter([False, True, False, False, True, True])
    waiter = asyncio.create_task(changes.wait_until(lambda: next(moments), 20))
    for _ in range(4):
        await asyncio.sleep(0)
        changes.notify()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert await waiter
    assert list(moments) == []


async def test_the_room_is_bounded_and_emptied() -> None:
    room, changes, open_ = WaitingRoom(Limits(waiting_calls=1)), Changes(), [False]
    waiter = asyncio.create_task(room.wait_until(changes, lambda: open_[0], 20, caller="alice"))
    await asyncio.sleep(0)
    with pytest.raises(BusyError) as busy:
        await room.wait_until(changes, lambda: False, 20, caller="bob")
    assert busy.value.retry_after_seconds == WAITING_CALL_SECONDS
    assert not await room.wait_until(changes, lambda: False, 0, caller="bob")
    open_[0] = True
    changes.notify()
    assert await waiter
    assert not await room.wait_until(changes, lambda: False, 0.01, caller="bob")


def test_one_caller_leaves_places_for_the_others_and_is_told_when_to_come_back() -> None:
    room = WaitingRoom(Limits(waiting_calls=2 * CALLS_PER_CALLER))
    with ExitStack() as held:
        for _ in range(CALLS_PER_CALLER):
            held.enter_context(room.place("alice"))
        with pytest.raises(BusyError, match="alice") as busy:
            held.enter_context(room.place("alice"))
        assert busy.value.retry_after_seconds == WAITING_CALL_SECONDS
        held.enter_context(room.place("bob"))
    with room.place("alice"):
        pass
