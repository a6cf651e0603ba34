"""Events of a round that are stored together: what comes while others are being stored goes in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from coordinator.contracts import AnsweredRequest
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
        """Tell that it has not happened."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

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
    """

    def __init__(self, apply: Callable[[Sequence[Waiting]], Awaitable[int]]) -> None:
        self._apply = apply
        self._waiting: list[Waiting] = []
        self._taken = False

    def add(self, one: Waiting) -> bool:
        """Add an event; return whether nobody has undertaken to :meth:`take` it."""
        self._waiting.append(one)
        first, self._taken = not self._taken, True
        return first

    async def take(self) -> None:
        """Apply events until none waits."""
        try:
            while self._waiting:
                count = await self._apply(self._waiting)
                del self._waiting[:count]
        finally:
            self._taken = False
            # What is left when this is cancelled, with the whole process.
            for one in self._waiting:
                one.outcome.cancel()
            self._waiting.clear()
