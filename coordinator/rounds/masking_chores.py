"""What a ``masking`` round has done beside its events: late vectors thrown away, the others added up without their masks."""

from __future__ import annotations

import asyncio

from coordinator.rounds.protocols import masking_state
from coordinator.rounds.round_chores import RoundChores
from coordinator.rounds.unmasking import Recovered, recover, unmask_sum
from secagg import faults
from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import Effect, UnmaskSum
from secagg.roles.coordinator.events import SumUnmasked, UnmaskingFailed
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import RoundState


class MaskingChores(RoundChores):
    """The tasks of one ``masking`` round."""

    def begin(self, state: RoundState) -> None:
        """Nothing: clients can join at once."""

    def delegate(self, effect: Effect, state: RoundState) -> None:
        """Take the masks off."""
        if not isinstance(effect, UnmaskSum):
            raise AssertionError(f"a masking round asks for no {type(effect).__name__}")  # noqa: TRY004 - a bug of ours
        self._start(lambda: self._unmask(masking_state(state)), "taking the masks off")

    def phase_entered(self, state: RoundState) -> None:
        """Once the survivors are fixed, throw all other vectors away."""
        if state.phase is Phase.CONFIRMING:
            self._start(lambda: self._throw_away_late(masking_state(state)), "throwing late vectors away")

    async def recall(self, state: RoundState) -> None:
        """Set the space of the vectors aside again, and throw those away that a former process may have left."""
        masking, vectors = masking_state(state), self._around.vectors
        bound = state.spec.masking_parameters.vector_bytes
        more = len(set(masking.sharers) - masking.refused.keys()) if state.phase is Phase.UPLOADING else 0
        await asyncio.to_thread(vectors.recall, state.spec.job, state.round, bound, clients=more)
        if state.phase is Phase.UNMASKING:
            await self._throw_away_late(masking)

    async def _throw_away_late(self, state: MaskingRoundState) -> None:
        # With its mask key open, the vector of a client declared dropped has its self mask alone; and it is in no sum.
        keep_only = self._around.spool.streams.keep_only
        await asyncio.to_thread(keep_only, state.spec.job, state.round, frozenset(state.survivors))
        faults.reach("late.thrown-away")

    async def _unmask(self, state: MaskingRoundState) -> None:
        found = await self._computed(recover, state)
        event = found if isinstance(found, UnmaskingFailed) else await self._opened(state, found)
        faults.reach("unmasked")
        if isinstance(event, UnmaskingFailed):
            self._live.log.warning("sum not unmasked", reason=event.reason, can_wait=event.can_wait)
        await self._tell(event)

    async def _opened(self, state: MaskingRoundState, found: Recovered) -> SumUnmasked | UnmaskingFailed:
        if found.liars:
            self._live.log.warning("clients faulty: shares that they revealed do not fit", clients=found.liars)
        return await self._computed(unmask_sum, self._around.vectors, self._around.blobs, state, found)
