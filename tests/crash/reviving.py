"""A process that is killed at chosen points and started again at once, as an operating system's supervisor would."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from secagg.faults import FLAG
from tests.live_process import END_SECONDS, POLL_SECONDS, LiveProcess

FIRED_SECONDS = 60.0


async def until(holds: Callable[[], bool], what: str, seconds: float = END_SECONDS) -> None:
    """Look until something holds; fail with what was waited for."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


class Reviver:
    """Starts a service anew whenever it was killed, each time with the next of some fault points armed.

    Args:
        service: whose life it is.
        points: where it dies, one after the other; each must be reached.
        meanwhile: called with the point while the service is dead.
    """

    def __init__(
        self, service: LiveProcess, points: Sequence[str], meanwhile: Callable[[str], None] = lambda _: None
    ) -> None:
        self._service = service
        self._points = tuple(points)
        self._meanwhile = meanwhile
        self.deaths = 0

    @property
    def fired(self) -> bool:
        """Whether every point was reached."""
        return self.deaths == len(self._points)

    def begin(self) -> None:
        """Start the service with the first point armed."""
        if self._service.running:
            self._service.kill()
        self._start()

    def _start(self) -> None:
        left = self._points[self.deaths :]
        self._service.environment = {FLAG: left[0]} if left else {}
        self._service.start()

    async def watch(self) -> None:
        """Revive the service for ever; fail when it dies of anything but a fault."""
        while True:
            while self._service.running:  # noqa: ASYNC110 - as in `until`
                await asyncio.sleep(POLL_SECONDS)
            process = self._service.process
            assert process is not None
            assert process.returncode == -signal.SIGKILL, self._service.text()
            assert not self.fired, f"{self._service.name} was killed by somebody else"
            self._meanwhile(self._points[self.deaths])
            self.deaths += 1
            self._start()

    async def all_fired(self) -> None:
        """Wait until the last point was reached."""
        try:
            await until(lambda: self.fired, "every death", FIRED_SECONDS)
        except AssertionError:
            missed = self._points[self.deaths]
            raise AssertionError(f"{missed} was not reached:\n{self._service.text()[-3000:]}") from None


@asynccontextmanager
async def dying_at(
    service: LiveProcess, points: Sequence[str], meanwhile: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Reviver]:
    """Let a service die at every one of these points during the block, which ends when all are reached and it serves again."""
    reviver = Reviver(service, points, meanwhile)
    reviver.begin()
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(reviver.watch())
            yield reviver
            await reviver.all_fired()
            watching.cancel()
        await asyncio.to_thread(service.wait_until_ready)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    finally:
        service.environment = {}
