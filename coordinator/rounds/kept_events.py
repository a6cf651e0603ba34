"""The events of a round as bytes of the store, and back: what a restarted coordinator makes its state of.

Events that end a round are not kept: what ended needs no events any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from secagg import codec
from secagg.codec.parsing import MAX_PARTIES, bounded, parsed, reading
from secagg.errors import MessageError
from secagg.identity import SignedMessage, TrustRoot, read_certificate
from secagg.ids import ClientId, HolderId
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.round import Approval, HolderStatus, Join, PartialStatement, RosterSeal, Upload
from secagg.roles.coordinator import events
from secagg.roles.coordinator.events import Event
from secagg.wire.v1 import kept_event_pb2 as pb

_WHAT: Final = "kept event"
_STORED_WITHIN: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Whose signatures count, and when they must hold: at the time at which the event happened."""

    trust: TrustRoot
    at: datetime

    def signed(self, wire: Any, kind: type[Any]) -> Any:
        """Return an authenticated message."""
        signed = codec.signed_from_wire(wire)
        return codec.authenticate(signed, kind, trust=self.trust, at=self.within([signed]))

    def within(self, messages: Iterable[SignedMessage]) -> datetime:
        """Return the event's time, or the nearest at which all these certificates count.

        They counted when the messages came, and an event is stored a little later: by less than ``_STORED_WITHIN``.
        """
        certificates = [read_certificate(one.certificate) for one in messages]
        first = max((one.not_valid_before_utc for one in certificates), default=self.at)
        last = min((one.not_valid_after_utc for one in certificates), default=self.at)
        nearest = min(max(self.at, first), last)
        return nearest if abs(nearest - self.at) < _STORED_WITHIN else self.at


Write: TypeAlias = Callable[[Any], Message]
Read: TypeAlias = Callable[[Any, Reader], Event]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    event: type
    write: Write
    read: Read


def _of_signed(event: type, field: str, message: type) -> _Kind:
    """Describe an event that is one signed message."""
    return _Kind(
        event=event,
        write=lambda one: codec.signed_to_wire(getattr(one, field).signed),
        read=lambda wire, reader: event(**{field: reader.signed(wire, message)}),
    )


def _names(names: Iterable[str]) -> tuple[HolderId, ...]:
    return tuple(HolderId(name) for name in bounded(tuple(names), "key holders", MAX_PARTIES))


def _write_key(event: events.KeyCertified) -> pb.KeptKey:
    return pb.KeptKey(
        bundle=codec.key_bundle_to_wire(event.bundle),
        plan=codec.round_plan_to_wire(event.plan),
        holders=[codec.holder_status_to_wire(status) for status in event.holders],
    )


def _read_key(wire: pb.KeptKey, reader: Reader) -> Event:
    signed = [
        codec.signed_from_wire(one) for one in bounded((*wire.bundle.hellos, *wire.bundle.statements), "signatures")
    ]
    return events.KeyCertified(
        bundle=codec.key_bundle_from_wire(wire.bundle, trust=reader.trust, at=reader.within(signed)),
        plan=codec.round_plan_from_wire(wire.plan),
        holders=tuple(codec.holder_status_from_wire(status) for status in bounded(wire.holders, "key holders")),
    )


def _write_loss(event: events.HolderLost) -> Message:
    return codec.holder_status_to_wire(
        HolderStatus(holder=event.holder, verdict=event.verdict, reason=event.reason),
    )


def _read_loss(wire: Any, _reader: Reader) -> Event:
    status = codec.holder_status_from_wire(wire)
    return events.HolderLost(holder=status.holder, verdict=status.verdict, reason=status.reason)


def _write_answer(event: events.AnswerReceived) -> pb.KeptAnswer:
    statement = None if event.statement is None else codec.signed_to_wire(event.statement.signed)
    return pb.KeptAnswer(holder=event.holder, blob=event.blob, statement=statement)


def _read_answer(wire: pb.KeptAnswer, reader: Reader) -> Event:
    statement = reader.signed(wire.statement, PartialStatement) if wire.HasField("statement") else None
    return events.AnswerReceived(holder=HolderId(wire.holder), blob=wire.blob, statement=statement)


_KINDS: Final[dict[str, _Kind]] = {
    "ceremony_begun": _Kind(
        event=events.CeremonyBegun,
        write=lambda one: pb.KeptCeremony(attempt=one.attempt, holders=one.holders),
        read=lambda wire, _: events.CeremonyBegun(attempt=wire.attempt, holders=_names(wire.holders)),
    ),
    "key_certified": _Kind(event=events.KeyCertified, write=_write_key, read=_read_key),
    "join": _of_signed(events.JoinReceived, "join", Join),
    "masking_join": _of_signed(events.JoinReceived, "join", MaskingJoin),
    "seal": _of_signed(events.SealReceived, "seal", RosterSeal),
    "upload": _of_signed(events.UploadVerified, "upload", Upload),
    "vector": _of_signed(events.VectorVerified, "upload", MaskedUpload),
    "refusal": _Kind(
        event=events.UploadRefused,
        write=lambda one: pb.KeptRefusal(client=one.client, reason=one.reason),
        read=lambda wire, _: events.UploadRefused(client=ClientId(wire.client), reason=wire.reason),
    ),
    "approval": _of_signed(events.ApprovalReceived, "approval", Approval),
    "silence": _Kind(
        event=events.HolderSilent,
        write=lambda one: pb.KeptSilence(holder=one.holder, reason=one.reason),
        read=lambda wire, _: events.HolderSilent(holder=HolderId(wire.holder), reason=wire.reason),
    ),
    "loss": _Kind(event=events.HolderLost, write=_write_loss, read=_read_loss),
    "answer": _Kind(event=events.AnswerReceived, write=_write_answer, read=_read_answer),
    "grace": _Kind(
        event=events.GraceOver, write=lambda _: pb.KeptGrace(), read=lambda _wire, _reader: events.GraceOver()
    ),
    "opening_failed": _Kind(
        event=events.OpeningFailed,
        write=lambda one: pb.KeptFailedOpening(
            reason=one.reason, liars=one.liars, suspects=one.suspects, can_wait=one.can_wait
        ),
        read=lambda wire, _: events.OpeningFailed(
            reason=wire.reason, liars=_names(wire.liars), suspects=_names(wire.suspects), can_wait=wire.can_wait
        ),
    ),
    "shares": _of_signed(events.SharesReceived, "shares", Shares),
    "confirmation": _of_signed(events.ConfirmationReceived, "confirmation", Confirmation),
    "unmasking": _of_signed(events.UnmaskingReceived, "unmasking", Unmasking),
    "unmasking_failed": _Kind(
        event=events.UnmaskingFailed,
        write=lambda one: pb.KeptFailedUnmasking(reason=one.reason, used=one.used, can_wait=one.can_wait),
        read=lambda wire, _: events.UnmaskingFailed(reason=wire.reason, used=wire.used, can_wait=wire.can_wait),
    ),
}
_FIELDS: Final = {kind.event: field for field, kind in _KINDS.items() if field != "masking_join"}
KEPT_EVENTS: Final = (*_FIELDS, events.DeadlinePassed)
"""Every event after which a round can still run."""


def to_bytes(event: Event) -> bytes:
    """Return an event as the store keeps it."""
    if isinstance(event, events.DeadlinePassed):
        return pb.KeptEvent(deadline_passed=codec.phase_to_wire(event.phase)).SerializeToString(deterministic=True)
    field = _FIELDS[type(event)]
    if isinstance(event, events.JoinReceived) and isinstance(event.join.message, MaskingJoin):
        field = "masking_join"
    kept = pb.KeptEvent()
    getattr(kept, field).CopyFrom(_KINDS[field].write(event))
    return kept.SerializeToString(deterministic=True)


def from_bytes(data: bytes, reader: Reader) -> Event:
    """Read what :func:`to_bytes` wrote.

    Raises:
        MessageError: it is not that, or a signature in it did not hold at its time.
    """
    kept = parsed(pb.KeptEvent, data, _WHAT)
    field = kept.WhichOneof("event")
    if field is None:
        raise MessageError("a kept event is of a kind that this version does not know")
    with reading(_WHAT):
        if field == "deadline_passed":
            return events.DeadlinePassed(phase=codec.phase_from_wire(kept.deadline_passed))
        return _KINDS[field].read(getattr(kept, field), reader)
