"""What a round has done beside its events, whatever its protocol: tasks that report back, and that end with it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator.rounds.persisting import persisting
from coordinator.rounds.surroundings import Surroundings
from secagg.roles.coordinator.effects import Effect
from secagg.roles.coordinator.events import Event
from secagg.roles.coordinator.state import RoundState

if TYPE_CHECKING:
    from coordinator.rounds.live import LiveRound

T = TypeVar("T")


class RoundChores(ABC):
    """The tasks of one round; all of them end before it is cleaned up.

    Args:
        live: the round.
        around: what the driver works with.
    """

    def __init__(self, live: LiveRound, around: Surroundings) -> None:
        self._live = live
        self._around = around
        self._tasks: set[asyncio.Task[Any]] = set()
        self._computing: set[asyncio.Future[Any]] = set()

    @abstractmethod
    def begin(self, state: RoundState) -> None:
        """Start what a new round needs before its first event."""

    @abstractmethod
    def delegate(self, effect: Effect, state: RoundState) -> None:
        """Start what an effect of the protocol's own asks for."""

    @abstractmethod
    def phase_entered(self, state: RoundState) -> None:
        """Start what the phase of the stored ``state`` brings with it."""

    @abstractmethod
    async def recall(self, state: RoundState) -> None:
        """Take up again what a former process had in its memory beside the ``state``."""

    async def finish(self) -> None:
        """Stop what still runs, at the round's end."""
        await self.stop()

    async def stop(self) -> None:
        """Stop what still runs; what computes is waited for, so that it writes nothing after the round is cleaned up."""
        running = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *self._computing, return_exceptions=True)

    async def _computed(self, work: Callable[..., T], *arguments: object) -> T:
        """Return what ``work`` gives, off the event loop."""
        computing = asyncio.get_running_loop().run_in_executor(self._around.compute, work, *arguments)
        self._computing.add(computing)
        computing.add_done_callback(self._computing.discard)
        return await asyncio.shield(computing)

    async def _tell(self, event: Event) -> None:
        """Apply an event, again while the store fails: what led to it is done, and is not done anew."""
        await persisting(lambda: self._live.apply(event), lambda: self._live.over, self._live.log)

    def _start(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """Run a task that is begun again while the store fails; any other failure ends the round."""
        self._begin(self._live.guarded(work, what))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
