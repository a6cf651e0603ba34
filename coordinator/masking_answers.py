"""What clients of a masking round are answered: where it stands, who has dropped out and why, and whose confirmations they see."""

from __future__ import annotations

from coordinator.contracts import RoundRecord
from secagg import codec
from secagg.errors import LateError
from secagg.ids import ClientId
from secagg.messages.masking import Confirmation, Unmasking
from secagg.messages.round import Phase
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.wire.v1 import masking_service_pb2 as pb


def standing_of(state: MaskingRoundState) -> pb.Standing:
    """Return where a round stands."""
    return pb.Standing(phase=codec.phase_to_wire(state.phase), reason=state.reason, have=state.have, need=state.need)


def stored_standing(record: RoundRecord) -> pb.Standing:
    """Return how a round ended that is known from the store only; its reason holds the counts."""
    return pb.Standing(phase=codec.phase_to_wire(record.status.phase), reason=record.status.reason)


def dropped_out(state: MaskingRoundState, client: ClientId) -> str | None:
    """Return why a client is out of a round that goes on or was published; None while it is in."""
    if state.phase in (Phase.OPEN, Phase.ABORTED):
        return None
    if client not in state.joins:
        return "it is not in the frozen roster"
    shared, uploaded = state.phase is not Phase.SHARING, state.phase not in (Phase.SHARING, Phase.UPLOADING)
    if shared and client not in state.sharers:
        return "it did not share its secrets in time, or too few of its neighbours did"
    if client in state.refused:
        return f"its vector was refused: {state.refused[client]}"
    if uploaded and client not in state.survivors:
        return "its vector did not arrive in time"
    return None


def is_settled(state: MaskingRoundState, message: Confirmation | Unmasking) -> bool:
    """Say whether an ended round has this message already, so that a repetition is harmless; it takes no other.

    Raises:
        LateError: the round has ended without it.
    """
    if not state.phase.ended:
        return False
    known = state.confirmations if isinstance(message, Confirmation) else state.unmaskings
    one = known.get(message.client)
    if one is None or one.message != message:
        raise LateError(f"round {state.round} is over")
    return True


def confirmations_for(state: MaskingRoundState, client: ClientId) -> tuple[Authenticated[Confirmation], ...]:
    """Return what others confirmed: all neighbours of the client, filled up to a quorum, in the order of their names."""
    others = sorted(set(state.confirmations) - {client})
    near = frozenset(state.neighbourhood.neighbours_of(client))
    neighbours = [one for one in others if one in near]
    strangers = [one for one in others if one not in near]
    missing = max(0, state.quorum - len(neighbours))
    shown = sorted(neighbours + strangers[:missing])
    return tuple(state.confirmations[one] for one in shown)
