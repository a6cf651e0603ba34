"""What every role machine has in common: one table of legal moves, and steps that change all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from secagg.errors import WrongPhaseError

StateT = TypeVar("StateT")
EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")


@dataclass(frozen=True, kw_only=True)
class Step(Generic[StateT, EffectT]):
    """The state after an event, and what its driver does now, in this order: store first, then send."""

    state: StateT
    effects: tuple[EffectT, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Machine(Generic[StateT, EventT, EffectT]):
    """A table of legal moves keyed by (phase, kind of event). States are frozen, so an exception leaves them as they were."""

    phase_of: Callable[[StateT], Hashable]
    # A handler knows its own phase's kind of state and event; the table brings the two together.
    moves: Mapping[tuple[Hashable, type], Callable[[Any, Any], Step[StateT, EffectT]]]

    def step(self, state: StateT, event: EventT) -> Step[StateT, EffectT]:
        """Apply an event; :class:`WrongPhaseError` for a move that is not in the table."""
        phase = self.phase_of(state)
        move = self.moves.get((phase, type(event)))
        if move is None:
            name = getattr(phase, "value", phase)
            raise WrongPhaseError(f"{type(event).__name__} cannot happen in phase {name}")
        return move(state, event)
