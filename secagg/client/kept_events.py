"""The events of a masking round as records of a journal, in the wire's bytes, and back.

All that a client sends in a round follows from these events, the master seed among them: a machine that is led through them
again stands where it stood, and sends the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from google.protobuf.message import Message

from secagg import codec
from secagg.client.journal import Record
from secagg.client.masking_answers import read_confirmations, read_roster, read_shares, read_survivors
from secagg.codec.parsing import parsed
from secagg.errors import MessageError
from secagg.identity import TrustRoot
from secagg.ids import DIGEST_BYTES, ClientId, Digest
from secagg.plan import MaskingRound, RoundPlan
from secagg.roles.client.events import Event, PlanOffered
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    SecretsDrawn,
    SharesShown,
    SurvivorsShown,
    TurnMissed,
    UnmaskingAccepted,
    VectorAccepted,
    VectorMasked,
)
from secagg.wire.v1 import masking_pb2
from secagg.wire.v1 import masking_service_pb2 as pb


class Kind(IntEnum):
    """Kinds of records. OWNER is not an event: whose round it is."""

    OWNER = 1
    PLAN = 2
    SECRETS = 3
    ROSTER = 4
    SHARES = 5
    MASKED = 6
    ACCEPTED = 7
    SURVIVORS = 8
    CONFIRMATIONS = 9
    MISSED = 10
    UNMASKED = 11


_MASKED: Final = struct.Struct(f"<{DIGEST_BYTES}sQQ")
_WHAT: Final = "record of a journal"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What it takes to write and read an event besides itself.

    Attributes:
        trust: the CA; signatures must hold when a record is read.
        roster: the clients by position; empty before the roster is frozen.
        clipped: entries of the update that were clipped, once it is masked.
    """

    trust: TrustRoot
    roster: Sequence[ClientId] = ()
    clipped: int = 0


def record_of(event: Event, context: Context) -> Record | None:  # noqa: C901, PLR0911 - one for each kind
    """Return an event of a masking round as a record; None for every other event."""
    match event:
        case PlanOffered(plan=RoundPlan(protocol=MaskingRound()) as plan):
            return Record(kind=Kind.PLAN, payload=codec.round_plan_to_bytes(plan))
        case SecretsDrawn():
            return Record(kind=Kind.SECRETS, payload=event.master_seed)
        case MaskingRosterFrozen():
            return Record(kind=Kind.ROSTER, payload=codec.masking_roster_to_bytes(event.roster))
        case SharesShown():
            sharers = codec.positions_of(event.sharers, context.roster)
            sealed = codec.sealed_shares_to_wire(event.sealed, context.roster)
            return _record(Kind.SHARES, pb.WaitForSharesResponse(sharers=sharers, sealed=sealed))
        case VectorMasked():
            payload = _MASKED.pack(event.vector_digest, event.vector_bytes, context.clipped)
            return Record(kind=Kind.MASKED, payload=payload)
        case VectorAccepted():
            return Record(kind=Kind.ACCEPTED)
        case SurvivorsShown():
            survivors = codec.positions_of(event.survivors, context.roster)
            return _record(Kind.SURVIVORS, pb.WaitForSurvivorsResponse(survivors=survivors))
        case ConfirmationsShown():
            confirmations = [codec.signed_to_wire(one.signed) for one in event.confirmations]
            return _record(Kind.CONFIRMATIONS, pb.WaitForConfirmationsResponse(confirmations=confirmations))
        case TurnMissed():
            return Record(kind=Kind.MISSED)
        case UnmaskingAccepted():
            return Record(kind=Kind.UNMASKED)
        case _:
            return None


def _record(kind: Kind, wire: Message) -> Record:
    return Record(kind=kind, payload=wire.SerializeToString(deterministic=True))


def event_of(record: Record, context: Context) -> Event:  # noqa: C901, PLR0911 - one for each kind
    """Return the event that a record holds.

    Raises:
        FaultyCoordinatorError: a certificate in it does not count any more.
        MessageError: it holds no event that this version knows.
    """
    payload = record.payload
    match record.kind:
        case Kind.PLAN:
            return PlanOffered(plan=plan_of(record), bundle=None)
        case Kind.SECRETS:
            return SecretsDrawn(master_seed=payload)
        case Kind.ROSTER:
            return read_roster(parsed(masking_pb2.MaskingRoster, payload, _WHAT), context.trust)
        case Kind.SHARES:
            return read_shares(parsed(pb.WaitForSharesResponse, payload, _WHAT), context.roster)
        case Kind.MASKED:
            return masked_of(record)[0]
        case Kind.ACCEPTED:
            return VectorAccepted()
        case Kind.SURVIVORS:
            return read_survivors(parsed(pb.WaitForSurvivorsResponse, payload, _WHAT), context.roster)
        case Kind.CONFIRMATIONS:
            return read_confirmations(parsed(pb.WaitForConfirmationsResponse, payload, _WHAT), context.trust)
        case Kind.MISSED:
            return TurnMissed()
        case Kind.UNMASKED:
            return UnmaskingAccepted()
        case _:
            raise MessageError(f"a journal's record of kind {record.kind} is not known here")


def plan_of(record: Record) -> RoundPlan:
    """Return the plan in a record of kind PLAN."""
    return codec.round_plan_from_bytes(record.payload)


def masked_of(record: Record) -> tuple[VectorMasked, int]:
    """Return the vector in a record of kind MASKED, and how many entries of the update were clipped."""
    if len(record.payload) != _MASKED.size:
        raise MessageError("a journal's record of a masked vector is not known here")
    digest, size, clipped = _MASKED.unpack(record.payload)
    return VectorMasked(vector_digest=Digest(digest), vector_bytes=size), clipped
