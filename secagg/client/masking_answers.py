"""What the coordinator's answers in a masking round say, read from the wire; the same again from a journal.

Whatever cannot be read, or was signed by a stranger, is the coordinator's fault (:class:`~secagg.errors.FaultyCoordinatorError`).
Verifying the signatures of a large roster takes a while: these run in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from secagg import codec
from secagg.client.calls import reading_answer
from secagg.client.exchange import now
from secagg.identity import TrustRoot
from secagg.ids import ClientId
from secagg.messages.masking import Confirmation
from secagg.roles.client.masking.events import ConfirmationsShown, MaskingRosterFrozen, SharesShown, SurvivorsShown
from secagg.wire.v1 import masking_pb2
from secagg.wire.v1 import masking_service_pb2 as pb


def read_roster(wire: masking_pb2.MaskingRoster, trust: TrustRoot) -> MaskingRosterFrozen:
    """Return the roster, with the signature of every join verified."""
    with reading_answer():
        return MaskingRosterFrozen(roster=codec.masking_roster_from_wire(wire, trust=trust, at=now()))


def read_shares(answer: pb.WaitForSharesResponse, roster: Sequence[ClientId]) -> SharesShown:
    """Return the sharers and what is sealed to this client."""
    with reading_answer():
        sharers = codec.clients_at(answer.sharers, roster)
        return SharesShown(sharers=sharers, sealed=codec.sealed_shares_from_wire(answer.sealed, roster))


def read_survivors(answer: pb.WaitForSurvivorsResponse, roster: Sequence[ClientId]) -> SurvivorsShown:
    """Return the survivors."""
    with reading_answer():
        return SurvivorsShown(survivors=codec.clients_at(answer.survivors, roster))


def read_confirmations(answer: pb.WaitForConfirmationsResponse, trust: TrustRoot) -> ConfirmationsShown:
    """Return the confirmations, with every signature verified."""
    with reading_answer():
        shown = codec.authenticate_all(answer.confirmations, Confirmation, trust=trust, at=now())
    return ConfirmationsShown(confirmations=shown)
