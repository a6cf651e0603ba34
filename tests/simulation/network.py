"""A network that loses, repeats, delays and reorders calls, by a seed; and processes that die with what they were doing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from he.errors import HEError
from secagg.errors import SecAggError, UnreachableError

T = TypeVar("T")
REFUSALS = (SecAggError, HEError)
"""What crosses the network as an error; everything else that a party raises is a defect of that party."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What becomes of a message: lost, delivered twice, late. Calls in flight overtake each other by their delays."""

    drop: float = 0.0
    duplicate: float = 0.0
    longest_delay_seconds: float = 0.1


class Process:
    """A party's process: what it serves dies with it. `defects` collects whatever fails in a way that it should not."""

    def __init__(self, name: str, defects: list[str]) -> None:
        self.name = name
        self.running = True
        self._defects = defects
        self._serving: set[asyncio.Task[Any]] = set()

    async def serve(self, handler: Callable[[], Awaitable[T]]) -> T:
        """Do something in this process, for a caller who may be gone before it is done."""
        if not self.running:
            raise UnreachableError(self.name, "nobody listens there")
        task = asyncio.ensure_future(self._watched(handler))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            return await task
        except asyncio.CancelledError:
            if self.running:
                raise
            raise UnreachableError(self.name, "it died") from None

    async def _watched(self, handler: Callable[[], Awaitable[T]]) -> T:
        try:
            return await handler()
        except REFUSALS:
            raise
        except Exception as error:
            self._defects.append(f"{self.name} failed inside: {error!r}")
            raise

    def crash(self) -> None:
        """Stop at once, wherever it stands."""
        self.running = False
        for task in tuple(self._serving):
            task.cancel()


class Link:
    """The way from one caller to one process and back, with draws of its own."""

    def __init__(self, seed: int, name: str, weather: Weather, process: Process) -> None:
        self._draws = random.Random(f"{seed}/{name}")
        self._weather = weather
        self._process = process
        self._stray: set[asyncio.Task[Any]] = set()

    async def call(self, handler: Callable[[], Awaitable[T]], *, timeout_seconds: float) -> T:
        """Return what the process answers, if request and answer both arrive in time; `UnreachableError` otherwise."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._carried(handler)
        except TimeoutError:
            raise UnreachableError(self._process.name, "it did not answer in time") from None

    async def _carried(self, handler: Callable[[], Awaitable[T]]) -> T:
        weather, draws = self._weather, self._draws
        if draws.random() < weather.duplicate:
            self._repeat(handler, self._delay())
        there, back = draws.random() >= weather.drop, draws.random() >= weather.drop
        await asyncio.sleep(self._delay())
        if not there:
            await _for_ever()
        answer = await self._process.serve(handler)
        await asyncio.sleep(self._delay())
        if not back:
            await _for_ever()
        return answer

    def _repeat(self, handler: Callable[[], Awaitable[Any]], seconds: float) -> None:
        async def again() -> None:
            await asyncio.sleep(seconds)
            try:
                await self._process.serve(handler)
            except REFUSALS:
                return  # whoever called hears the first answer only

        task = asyncio.ensure_future(again())
        self._stray.add(task)
        task.add_done_callback(self._stray.discard)

    def _delay(self) -> float:
        return self._draws.uniform(0.0, self._weather.longest_delay_seconds)


async def _for_ever() -> None:
    await asyncio.Event().wait()
