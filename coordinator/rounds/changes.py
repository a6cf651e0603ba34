"""Waiting for something to become true, with a limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Final

from coordinator.contracts import Limits
from coordinator.pushback import WAITING_CALL_SECONDS
from secagg.errors import BusyError

CALLS_PER_CALLER: Final = 64
"""A client waits in one call for each job that it takes part in; calls of a connection that it lost end by themselves."""


class Changes:
    """Wakes those who wait for what has become true; one bound for all who wait.

    Many wait and much changes: hundreds of calls in a phase that each client's message moves on. So the conditions are looked at once
    for all the changes of a turn of the event loop, each in its waiter's own context, and only those whose condition holds are woken.
    """

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], tuple[Callable[[], bool], Context]] = {}
        self._looking = False

    def notify(self) -> None:
        """Have every waiter's condition looked at again, soon."""
        if self._waiters and not self._looking:
            next(iter(self._waiters)).get_loop().call_soon(self._look)
            self._looking = True

    def _look(self) -> None:
        self._looking = False
        for waiter, (holds, context) in self._waiters.items():
            if not waiter.done():
                _settle(waiter, holds, context)

    async def wait_until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Return whether it holds within the time; at once when it holds already."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not holds():
            if end <= loop.time() or not await self._woken(loop, holds, end):
                return holds()
        return True

    async def _woken(self, loop: asyncio.AbstractEventLoop, holds: Callable[[], bool], end: float) -> bool:
        """Return whether it was true for a moment before the end."""
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters[waiter] = (holds, copy_context())
        try:
            async with asyncio.timeout_at(end):
                await waiter
        except TimeoutError:
            return False
        finally:
            del self._waiters[waiter]
        return True


def _settle(waiter: asyncio.Future[None], holds: Callable[[], bool], context: Context) -> None:
    """Wake one whose condition holds, or give it the error that looking at it raises."""
    try:
        if context.run(holds):
            waiter.set_result(None)
    except StopIteration as error:  # A future does not take this one.
        waiter.set_exception(RuntimeError(f"a condition ended: {error!r}"))
    except Exception as error:  # noqa: BLE001 - it is the waiter's, who raises it
        waiter.set_exception(error)
    except asyncio.CancelledError:
        waiter.cancel()


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
