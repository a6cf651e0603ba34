"""What a ``masking`` round has done beside its events: late vectors thrown away, the others added up, their masks taken off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.rounds.protocols import masking_state
from coordinator.rounds.round_chores import RoundChores
from coordinator.rounds.surroundings import Surroundings
from coordinator.rounds.unmasking import Recovered, add_survivors, lanes, recover, take_off, write_sum
from secagg.masking.masks import MaskedSum
from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import Effect, UnmaskSum
from secagg.roles.coordinator.events import SumUnmasked, UnmaskingFailed
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import RoundState

if TYPE_CHECKING:
    from coordinator.rounds.live import LiveRound


class MaskingChores(RoundChores):
    """The tasks of one ``masking`` round."""

    def __init__(self, live: LiveRound, around: Surroundings) -> None:
        super().__init__(live, around)
        self._total: asyncio.Task[MaskedSum] | None = None

    def begin(self, state: RoundState) -> None:
        """Nothing: clients can join at once."""

    def delegate(self, effect: Effect, state: RoundState) -> None:
        """Take the masks off."""
        if not isinstance(effect, UnmaskSum):
            raise AssertionError(f"a masking round asks for no {type(effect).__name__}")  # noqa: TRY004 - a bug of ours
        self._start(self._unmask(masking_state(state)))

    def phase_entered(self, state: RoundState) -> None:
        """Once the survivors are fixed, throw all other vectors away, and add theirs up while they confirm."""
        if state.phase is Phase.CONFIRMING:
            closed = masking_state(state)
            self._start(self._throw_away_late(closed))
            self._total = self._begin(self._added_up(closed))

    async def _throw_away_late(self, state: MaskingRoundState) -> None:
        # With its mask key open, the vector of a client declared dropped would be bare.
        keep_only = self._around.spool.streams.keep_only
        await asyncio.to_thread(keep_only, state.spec.job, state.round, frozenset(state.survivors))

    async def _added_up(self, state: MaskingRoundState) -> MaskedSum:
        parameters = state.spec.masking_parameters
        total, vectors = MaskedSum(parameters), self._around.vectors
        await asyncio.gather(
            *(self._computed(add_survivors, total, vectors, state, bounds) for bounds in lanes(parameters))
        )
        return total

    async def _unmask(self, state: MaskingRoundState) -> None:
        found = await self._computed(recover, state)
        event = found if isinstance(found, UnmaskingFailed) else await self._opened(state, found)
        if isinstance(event, UnmaskingFailed):
            self._live.log.warning("sum not unmasked", reason=event.reason, can_wait=event.can_wait)
        await self._live.apply(event)

    async def _opened(self, state: MaskingRoundState, found: Recovered) -> SumUnmasked | UnmaskingFailed:
        if self._total is None:
            raise AssertionError("the vectors are added up from CONFIRMING on, and unmasked once")
        if found.liars:
            self._live.log.warning("clients faulty: shares that they revealed do not fit", clients=found.liars)
        total, self._total = await asyncio.shield(self._total), None
        bounds = lanes(state.spec.masking_parameters)
        await asyncio.gather(*(self._computed(take_off, total, found.masks, lane) for lane in bounds))
        return await self._computed(write_sum, total, state, self._around.blobs, found.liars)

    async def finish(self) -> None:
        """Stop what still runs, and let go of the sum."""
        await super().finish()
        self._total = None
