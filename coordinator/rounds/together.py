"""Events of a round that are stored together: what comes while others are being stored goes in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.contracts import AnsweredRequest
from secagg.errors import SecAggError
from secagg.messages.round import Phase
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import Effect
from secagg.roles.coordinator.events import Event
from secagg.roles.coordinator.state import RoundState

MOST_TOGETHER: Final = 64
"""Events in one step of the store: a transaction stays short, whatever has piled up."""


def _outcome() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, kw_only=True, eq=False)
class Waiting:
    """An event whose turn has not come, and the call that brought it.

    Attributes:
        only_in: the phase that it is meant for; in any other one it changes nothing.
        outcome: done once its effects are on their way.
    """

    event: Event
    request: AnsweredRequest | None = None
    only_in: Phase | None = None
    outcome: asyncio.Future[None] = field(default_factory=_outcome)

    def fail(self, error: Exception) -> None:
        """Tell that it has not happened. Each gets an error of its own: where it is raised, it takes on what was raised before."""
        if not self.outcome.done():
            own = copy(error) if isinstance(error, SecAggError) else error
            if error.__cause__ is not None:  # To set none would hide the context too.
                own.__cause__ = error.__cause__
            self.outcome.set_exception(own)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Do what it brings inside, and tell that it has happened, or which error that raised."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller raises it
            self.fail(error)
        else:
            if not self.outcome.done():
                self.outcome.set_result(None)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What the machine makes of an event: the state after it, and effects; none where nothing changes. Or an error."""

    waiting: Waiting
    state: RoundState
    effects: tuple[Effect, ...] = ()
    error: Exception | None = None


def decide(state: RoundState, waiting: Sequence[Waiting]) -> list[Decided]:
    """Apply the first of these events, each to what the one before left: none after one that changes the phase."""
    decided: list[Decided] = []
    phase = state.phase
    for one in waiting[:MOST_TOGETHER]:
        if one.only_in not in (None, state.phase):
            decided.append(Decided(waiting=one, state=state))
            continue
        try:
            step = rules.step(state, one.event)
        except Exception as error:  # noqa: BLE001 - it is the caller's, who raises it
            decided.append(Decided(waiting=one, state=state, error=error))
            continue
        state = step.state
        decided.append(Decided(waiting=one, state=state, effects=step.effects))
        if state.phase is not phase:
            break
    return decided


class Turns:
    """The events that wait, in the order in which they came: of each call that is being served one at the most.

    Args:
        apply: applies the first of these events, tells each what became of it, and returns how many they were.
        spawn: starts a task.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[Waiting]], Awaitable[int]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._apply = apply
        self._spawn = spawn
        self._waiting: list[Waiting] = []
        self._taking: asyncio.Task[None] | None = None

    def add(self, one: Waiting) -> None:
        """Add an event, whose turn will come."""
        self._waiting.append(one)
        if self._taking is None:
            self._taking = self._spawn(self._take())
            self._taking.add_done_callback(self._taken)

    async def _take(self) -> None:
        while self._waiting:
            count = await self._apply(self._waiting)
            del self._waiting[:count]
        self._taking = None

    def _taken(self, task: asyncio.Task[None]) -> None:
        # Nobody is left unless the task was cancelled, with the whole process, even before it began.
        if self._taking is task:
            self._taking = None
            for one in self._waiting:
                one.outcome.cancel()
            self._waiting.clear()
