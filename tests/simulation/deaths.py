"""When a simulated coordinator's process is killed: at an instant, or before or after one of its calls of a store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Death:
    """One kill.

    Attributes:
        seconds: after the process began; where there are calls, after which to kill it whatever it calls.
        calls: of its stores, counted from its beginning, the last of which it dies at; 0 for none.
        before: whether that call is not made.
        down_seconds: until it is started again.
    """

    seconds: float
    calls: int = 0
    before: bool = False
    down_seconds: float = 1.0


def drawn_deaths(draws: random.Random, count: int) -> tuple[Death, ...]:
    """Draw kills of one process after the other."""
    return tuple(
        Death(
            seconds=draws.choice([draws.uniform(0.0, 5.0), draws.uniform(0.0, 80.0)]),
            calls=draws.choice([0, draws.randint(1, 12), draws.randint(1, 80)]),
            before=draws.random() < 0.5,
            down_seconds=draws.choice([0.1, draws.uniform(0.1, 15.0)]),
        )
        for _ in range(count)
    )


class KilledError(Exception):
    """The process that called is dead."""


class Reaper:
    """Counts what one process does with its stores, and kills it where it is told.

    Args:
        kill: ends the process.
    """

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill
        self._dead = False
        self._left = 0
        self._before = False

    def arm(self, death: Death) -> None:
        self._left, self._before = death.calls, death.before

    def dies(self) -> None:
        self._dead = True

    def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Make a call of a store, unless the process dies before it, or is dead: a thread, or a clean-up, that is left of it."""
        if self._dead:
            raise KilledError
        self._left -= 1
        strikes = self._left == 0
        if strikes and self._before:
            self._kill()
            raise KilledError
        result = method(*args, **named)
        if strikes:
            # Done, and nobody hears of it.
            self._kill()
            raise KilledError
        return result


class Reached:
    """A store as one process reaches it."""

    def __init__(self, store: Any, reaper: Reaper) -> None:
        self._store = store
        self._reaper = reaper

    def __getattr__(self, name: str) -> Any:
        """Return a method of the store that the process may die at."""
        method = getattr(self._store, name)
        return lambda *args, **named: self._reaper.call(method, *args, **named)
