"""An event loop that never waits: its clock jumps to whatever happens next, and executors run in the loop itself, by a seed."""

from __future__ import annotations

import asyncio
import random
import selectors
from asyncio import Future
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.simulation.deaths import KilledError

T = TypeVar("T")

LONGEST_CHORE_SECONDS = 0.01


class _Jump(selectors.SelectSelector):
    """Passes the time that the loop would have waited; nothing real is waited for."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        self._jump(max(0.0, timeout))
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time starts at 0 and costs nothing. What goes to an executor happens a little later, now or only just before its answer.

    So a task that is cancelled in between (a process that dies) leaves its write done, or not done.
    """

    def __init__(self, seed: int) -> None:
        self._virtual_now = 0.0
        self._draws = random.Random(f"{seed}/executor")
        super().__init__(_Jump(self._pass))

    def _pass(self, seconds: float) -> None:
        self._virtual_now += seconds

    def time(self) -> float:
        return self._virtual_now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = self.create_future()
        at_once, seconds = self._draws.random() < 0.5, self._draws.uniform(0.0, LONGEST_CHORE_SECONDS)
        settle = _outcome(func, *args) if at_once else None

        def answer() -> None:
            if future.done():
                return
            answered = settle or _outcome(func, *args)
            # Whoever asked may have died of what was done.
            if not future.done():
                answered(future)

        self.call_later(seconds, answer)
        return future


def _outcome(func: Callable[..., Any], *args: Any) -> Callable[[Future[Any]], None]:
    try:
        result = func(*args)
    except KilledError:
        return lambda future: future.cancel()
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller hears it
        failure = error
        return lambda future: future.set_exception(failure)
    return lambda future: future.set_result(result)


def simulate(seed: int, work: Callable[[], Coroutine[Any, Any, T]], defects: list[str] | None = None) -> T:
    """Run one simulation to its end, and leave no task behind; `defects` collects errors that nobody looked at."""
    loop = VirtualTimeLoop(seed)
    unread = [] if defects is None else defects
    loop.set_exception_handler(lambda _, context: unread.append(f"{context['message']}: {context.get('exception')!r}"))
    try:
        return loop.run_until_complete(work())
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
