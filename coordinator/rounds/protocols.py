"""Which protocol a round runs; asked for a step of the other one, it says so."""

from __future__ import annotations

from secagg.errors import UsageError
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import CkksRoundState, RoundState


def ckks_state(state: RoundState) -> CkksRoundState:
    """Return the state of a ``ckks`` round; :class:`UsageError` for another."""
    if not isinstance(state, CkksRoundState):
        raise _other_protocol(state, CkksRoundState)
    return state


def masking_state(state: RoundState) -> MaskingRoundState:
    """Return the state of a ``masking`` round; :class:`UsageError` for another."""
    if not isinstance(state, MaskingRoundState):
        raise _other_protocol(state, MaskingRoundState)
    return state


def _other_protocol(state: RoundState, asked: type[RoundState]) -> UsageError:
    name = state.spec.protocol.NAME
    step = "ckks" if asked is CkksRoundState else "masking"
    return UsageError(
        f"round {state.round} of job {state.spec.job} runs {name}, and this is a step of {step}",
        next_step="Follow the protocol that the round's plan names",
    )
