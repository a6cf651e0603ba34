"""Kept events: there and back is the same for every kind, and a damaged or forged one is refused, whatever its bytes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rounds.kept_events import KEPT_EVENTS, Reader, from_bytes, to_bytes
from secagg import codec
from secagg.errors import MessageError
from secagg.ids import ClientId, HolderId
from secagg.messages.round import HolderVerdict, PartialStatement, Phase
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator import events
from secagg.roles.coordinator.events import Event
from secagg.wire.v1 import kept_event_pb2 as pb
from tests import masking_material
from tests.machines import coordinator_events as ckks
from tests.machines import masking_events
from tests.pki_material import COORDINATOR, NOW
from tests.simulation.round_material import HOLDERS, client_party, holder_party, identity, impostor, signed_by
from tests.simulation.whole_rounds import certified

TRUST = identity(COORDINATOR).trust
READER = Reader(trust=TRUST, at=NOW)
ALICE, NORTH = ClientId("alice"), HOLDERS[0]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=2000)
NAMES = st.sampled_from(HOLDERS)
COUNTS = st.integers(0, 2**32 - 1)


def of_holder(message: Any) -> Authenticated[Any]:
    return signed_by(holder_party(NORTH), replace(message, holder=NORTH))


def of_client(message: Any) -> Authenticated[Any]:
    return signed_by(client_party(ALICE), message)


@cache
def signed_events() -> dict[type | str, Event]:
    """Return an event of each kind that holds signatures; the masking join under its name."""
    state, masks = ckks.World().approving().state, masking_material.finished()
    digest = ckks.digest("x")
    statement = PartialStatement(key_id=ckks.KEY_ID, request_digest=digest, answer_digest=digest, holder=NORTH)
    made: list[Event] = [
        certified(1)[0],
        events.JoinReceived(join=of_client(ckks.join(ALICE).join.message)),
        events.SealReceived(seal=of_holder(ckks.seal(state, NORTH).seal.message)),
        events.UploadVerified(upload=of_client(ckks.upload(state, ALICE).upload.message)),
        events.ApprovalReceived(approval=of_holder(ckks.approval(state, NORTH).approval.message)),
        events.AnswerReceived(holder=NORTH, blob="uploads/digits/1/answers/3/north", statement=of_holder(statement)),
        events.SharesReceived(shares=of_client(masks.shares(ALICE).shares.message)),
        events.VectorVerified(upload=of_client(masks.vector(ALICE).upload.message)),
        events.ConfirmationReceived(confirmation=of_client(masks.confirmation(ALICE).confirmation.message)),
        events.UnmaskingReceived(unmasking=of_client(masks.unmasking(ALICE).unmasking.message)),
    ]
    masking_join = events.JoinReceived(join=of_client(masking_events.join(ALICE).join.message))
    return {**{type(one): one for one in made}, "masking join": masking_join}


UNSIGNED: dict[type, st.SearchStrategy[Any]] = {
    events.CeremonyBegun: st.builds(
        events.CeremonyBegun, attempt=COUNTS, holders=st.lists(NAMES, max_size=9).map(tuple)
    ),
    events.UploadRefused: st.builds(events.UploadRefused, client=st.just(ALICE), reason=TEXT),
    events.HolderSilent: st.builds(events.HolderSilent, holder=NAMES, reason=TEXT),
    events.HolderLost: st.builds(events.HolderLost, holder=NAMES, verdict=st.sampled_from(HolderVerdict), reason=TEXT),
    events.GraceOver: st.builds(events.GraceOver),
    events.OpeningFailed: st.builds(
        events.OpeningFailed,
        reason=TEXT,
        can_wait=st.booleans(),
        liars=st.lists(NAMES, max_size=9).map(tuple),
        suspects=st.lists(NAMES, max_size=9).map(tuple),
    ),
    events.UnmaskingFailed: st.builds(events.UnmaskingFailed, reason=TEXT, can_wait=st.booleans(), used=COUNTS),
    events.DeadlinePassed: st.builds(events.DeadlinePassed, phase=st.sampled_from(Phase)),
}
CONTENTS = st.deferred(lambda: st.sampled_from([*signed_events().values(), events.GraceOver()]).map(to_bytes))
SIGNED_KINDS = (
    events.KeyCertified,
    events.JoinReceived,
    events.SealReceived,
    events.UploadVerified,
    events.ApprovalReceived,
    events.AnswerReceived,
    events.SharesReceived,
    events.VectorVerified,
    events.ConfirmationReceived,
    events.UnmaskingReceived,
    "masking join",
)


def test_every_kind_is_tried() -> None:
    assert set(signed_events()) == set(SIGNED_KINDS)
    tried = {kind for kind in SIGNED_KINDS if isinstance(kind, type)} | set(UNSIGNED)
    assert tried == set(KEPT_EVENTS)


@pytest.mark.parametrize("kind", SIGNED_KINDS)
def test_there_and_back_with_its_signatures(kind: type) -> None:
    event = signed_events()[kind]
    assert from_bytes(to_bytes(event), READER) == event


@given(event=st.one_of(*UNSIGNED.values()))
def test_there_and_back_whatever_the_reason(event: Event) -> None:
    assert from_bytes(to_bytes(event), READER) == event


def test_an_answer_without_a_statement_comes_back_without_one() -> None:
    event = events.AnswerReceived(holder=HolderId("north"))
    assert from_bytes(to_bytes(event), READER) == event


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(MessageError):
        from_bytes(data, READER)


@given(content=CONTENTS, cut=st.floats(0, 1, exclude_max=True))
def test_what_was_cut_off_is_refused_or_still_true(content: bytes, cut: float) -> None:
    refused_or_true(content, content[: int(cut * len(content))])


@given(content=CONTENTS, place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_what_was_altered_is_refused_or_still_true(content: bytes, place: float, bit: int) -> None:
    altered = bytearray(content)
    if altered:
        altered[int(place * len(altered))] ^= 1 << bit
    refused_or_true(content, bytes(altered))


def refused_or_true(content: bytes, altered: bytes) -> None:
    """Read what was altered: what nobody signed does not come out as signed."""
    true = {one.payload for one in statements(from_bytes(content, READER))}
    try:
        event = from_bytes(altered, READER)
    except MessageError:
        return
    assert {one.payload for one in statements(event)} <= true


def statements(event: Event) -> list[Any]:
    """Return what was signed in an event."""
    if isinstance(event, events.KeyCertified):
        return [one.signed for one in (*event.bundle.hellos, *event.bundle.statements)]
    return [one.signed for one in vars(event).values() if isinstance(one, Authenticated)]


@pytest.mark.parametrize("kind", SIGNED_KINDS)
def test_a_signature_must_have_held_when_the_event_happened(kind: type) -> None:
    content = to_bytes(signed_events()[kind])
    for at in (NOW - timedelta(days=3650), NOW + timedelta(days=3650)):
        with pytest.raises(MessageError):
            from_bytes(content, Reader(trust=TRUST, at=at))


def test_what_a_stranger_signed_is_refused() -> None:
    join = ckks.join(ALICE).join.message
    forged = codec.sign(join, impostor(client_party(ALICE)).signer)
    kept = pb.KeptEvent(join=codec.signed_to_wire(forged))
    with pytest.raises(MessageError, match="not issued by the CA"):
        from_bytes(kept.SerializeToString(), READER)


def test_a_message_is_not_taken_for_another_kind() -> None:
    """A ``ckks`` join under the field of a masking join, an approval under that of a seal."""
    join, approval = signed_events()[events.JoinReceived], signed_events()[events.ApprovalReceived]
    assert isinstance(join, events.JoinReceived)
    assert isinstance(approval, events.ApprovalReceived)
    for kept in (
        pb.KeptEvent(masking_join=codec.signed_to_wire(join.join.signed)),
        pb.KeptEvent(seal=codec.signed_to_wire(approval.approval.signed)),
        pb.KeptEvent(unmasking=codec.signed_to_wire(join.join.signed)),
    ):
        with pytest.raises(MessageError):
            from_bytes(kept.SerializeToString(), READER)


def test_an_event_of_a_later_version_says_so() -> None:
    with pytest.raises(MessageError, match="does not know"):
        from_bytes(b"", READER)
    with pytest.raises(MessageError, match="does not know"):
        from_bytes(b"\xfa\x07\x01x", READER)
