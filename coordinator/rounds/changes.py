"""Waiting for something to become true, with a limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from coordinator.contracts import Limits
from coordinator.pushback import WAITING_CALL_SECONDS
from secagg.errors import BusyError

CALLS_PER_CALLER: Final = 64
"""A client waits in one call for each job that it takes part in; calls of a connection that it lost end by themselves."""


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
    """How many calls may be held back at a time: of all callers together, and of each."""

    def __init__(self, limits: Limits) -> None:
        self._bound = limits.waiting_calls
        self._held = 0
        self._of: Counter[str] = Counter()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Hold a place for one call that lasts as long as it likes; :class:`BusyError` when too many are held."""
        if self._held >= self._bound:
            raise BusyError(f"{self._held} calls are waiting already", retry_after_seconds=WAITING_CALL_SECONDS)
        if self._of[caller] >= CALLS_PER_CALLER:
            reason = f"{self._of[caller]} calls of {caller} are waiting already"
            raise BusyError(reason, retry_after_seconds=WAITING_CALL_SECONDS)
        self._held += 1
        self._of[caller] += 1
        try:
            yield
        finally:
            self._held -= 1
            self._of -= Counter({caller: 1})

    async def wait_until(self, changes: Changes, holds: Callable[[], bool], seconds: float, *, caller: str) -> bool:
        """Wait as :meth:`Changes.wait_until` does, in a place; :class:`BusyError` when there is none."""
        if holds() or seconds <= 0:
            return holds()
        with self.place(caller):
            return await changes.wait_until(holds, seconds)
