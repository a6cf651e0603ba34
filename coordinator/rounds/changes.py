"""Waiting for something to become true, with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from coordinator.contracts import Limits
from secagg.errors import BusyError


class Changes:
    """Wakes everybody who waits whenever something changed; one bound for all who wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Let every waiter look again."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Return whether it holds within the time; at once when it holds already."""
        end = asyncio.get_running_loop().time() + seconds
        while not holds():
            event, left = self._event, end - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(left):
                    await event.wait()
            except TimeoutError:
                return holds()
        return True


class WaitingRoom:
    """How many calls may be held back at a time."""

    def __init__(self, limits: Limits) -> None:
        self._bound = limits.waiting_calls
        self._waiting = 0

    async def wait_until(self, changes: Changes, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait as :meth:`Changes.wait_until` does; :class:`BusyError` when too many wait."""
        if holds() or seconds <= 0:
            return holds()
        if self._waiting >= self._bound:
            raise BusyError(f"{self._waiting} calls are waiting already")
        self._waiting += 1
        try:
            return await changes.wait_until(holds, seconds)
        finally:
            self._waiting -= 1
