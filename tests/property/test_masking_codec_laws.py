"""Rosters, positions and sealed shares of masking rounds: there and back is the same, anything else is one error."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import codec
from secagg.errors import CertificateError, MessageError
from secagg.identity import Role
from secagg.ids import ClientId, Digest
from secagg.messages.masking import MaskingJoin, MaskingRoster
from secagg.wire.v1 import masking_pb2, masking_service_pb2
from tests.pki_material import NOW
from tests.property.test_codec_laws import _signer, _trusted

ROSTER = tuple(ClientId(f"client-{i:02}") for i in range(20))
PLACES = st.sets(st.integers(0, len(ROSTER) - 1)).map(sorted)


def _roster() -> MaskingRoster:
    trust, _ = _trusted()
    joins = tuple(
        codec.authenticate(
            codec.sign(
                MaskingJoin(
                    plan_digest=Digest(bytes(32)),
                    client=ClientId(name),
                    mask_key=name.encode().ljust(32, b"m"),
                    share_key=name.encode().ljust(32, b"s"),
                    seed_commitment=bytes(32),
                ),
                _signer(Role.CLIENT, name),
            ),
            MaskingJoin,
            trust=trust,
            at=NOW,
        )
        for name in ("alice", "bob", "carol")
    )
    return MaskingRoster(plan_digest=Digest(bytes(32)), joins=joins, neighbours=2, threshold=2, quorum=2)


SENT = _roster()
SOUND = codec.masking_roster_to_bytes(SENT)


def _read(data: bytes) -> MaskingRoster:
    trust, _ = _trusted()
    return codec.masking_roster_from_bytes(data, trust=trust, at=NOW)


def test_a_roster_comes_back() -> None:
    assert _read(SOUND) == SENT
    assert _read(SOUND).clients == ("alice", "bob", "carol")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_as_a_roster_or_refused(data: bytes) -> None:
    with suppress(MessageError, CertificateError):
        _read(data)


@given(place=st.integers(0, len(SOUND) - 1), byte=st.integers(0, 255), end=st.integers(0, len(SOUND)))
def test_a_roster_that_was_altered_is_read_or_refused(place: int, byte: int, end: int) -> None:
    altered = bytearray(SOUND)
    altered[place] = byte
    for data in (bytes(altered), bytes(altered[:end])):
        with suppress(MessageError, CertificateError):
            _read(data)


def test_a_roster_of_more_clients_than_a_plan_may_have_is_refused_before_a_signature_is_looked_at() -> None:
    wire = masking_pb2.MaskingRoster.FromString(SOUND)
    for _ in range(1500):
        wire.joins.add()
    with pytest.raises(MessageError, match="1503 joins are more than 1500"):
        _read(wire.SerializeToString())


@given(places=PLACES)
def test_positions_come_back_as_names(places: list[int]) -> None:
    clients = codec.clients_at(places, ROSTER)
    assert codec.positions_of(reversed(clients), ROSTER) == places


@given(places=st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_positions_that_do_not_ascend_or_leave_the_roster_are_refused(places: list[int]) -> None:
    sound = places == sorted(set(places)) and all(place < len(ROSTER) for place in places)
    if sound:
        assert len(codec.clients_at(places, ROSTER)) == len(places)
    else:
        with pytest.raises(MessageError):
            codec.clients_at(places, ROSTER)


@given(sealed=st.dictionaries(st.sampled_from(ROSTER), st.binary(max_size=256)))
def test_sealed_shares_come_back(sealed: dict[ClientId, bytes]) -> None:
    wire = codec.sealed_shares_to_wire(sealed, ROSTER)
    assert codec.sealed_shares_from_wire(wire, ROSTER) == sealed


@pytest.mark.parametrize(
    "wire",
    [
        [{"sender": 20, "sealed": b"x"}],
        [{"sender": 2, "sealed": b"x"}, {"sender": 2, "sealed": b"y"}],
        [{"sender": 2, "sealed": bytes(257)}],
        [{"sender": 0, "sealed": b"x"}] * 21,
    ],
)
def test_sealed_shares_of_strangers_twice_or_too_long_are_refused(wire: list[dict[str, Any]]) -> None:
    with pytest.raises(MessageError):
        codec.sealed_shares_from_wire([masking_service_pb2.SealedShare(**one) for one in wire], ROSTER)
