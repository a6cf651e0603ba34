"""Waiting with a limit, and no more waiters than allowed."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.contracts import Limits
from coordinator.rounds.changes import Changes, WaitingRoom
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


async def test_the_room_is_bounded_and_emptied() -> None:
    room, changes, open_ = WaitingRoom(Limits(waiting_calls=1)), Changes(), [False]
    waiter = asyncio.create_task(room.wait_until(changes, lambda: open_[0], 20, caller="alice"))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await room.wait_until(changes, lambda: False, 20, caller="bob")
    assert not await room.wait_until(changes, lambda: False, 0, caller="bob")
    open_[0] = True
    changes.notify()
    assert await waiter
    assert not await room.wait_until(changes, lambda: False, 0.01, caller="bob")
