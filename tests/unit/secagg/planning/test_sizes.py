"""Lengths on paper against messages, certificates and streams as they really are."""

from __future__ import annotations

from pathlib import Path

import pytest

from secagg import codec
from secagg.identity import Party, Role
from secagg.ids import ClientId, Digest, HolderId, KeyId
from secagg.masking.planner import plan_numbers
from secagg.messages.masking import Shares
from secagg.messages.round import Join, RosterSeal
from secagg.planning.client_bytes import masking_client
from secagg.planning.question import Question
from secagg.planning.sizes import (
    certificate_bytes,
    field,
    number_field,
    on_wire,
    signed_bytes,
    varint,
    with_overhead,
)
from secagg.wire.v1 import masking_service_pb2, round_pb2
from secagg.wire.v1.client_service_pb2 import UploadPart
from tests.pki_material import deployment

DIGEST = Digest(bytes(32))


@pytest.mark.parametrize("number", [1, 127, 128, 16_383, 16_384, 2**31])
def test_numbers_and_fields_are_as_long_as_protobuf_makes_them(number: int) -> None:
    assert len(UploadPart(offset=number).SerializeToString()) == number_field(number) == 1 + varint(number)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 70_000])
def test_a_field_of_bytes_is_as_long_as_protobuf_makes_it(length: int) -> None:
    assert len(UploadPart(data=bytes(length)).SerializeToString()) == field(length)


@pytest.mark.parametrize("name", ["a", "client-00", "x" * 40])
def test_certificates_are_as_long_as_the_ones_that_are_issued(tmp_path: Path, name: str) -> None:
    made = deployment(tmp_path / "pki")
    for role in (Role.CLIENT, Role.KEY_HOLDER, Role.COORDINATOR):
        issued = made.identity(Party(role=role, name=name)).signer.certificate
        assert len(issued) == pytest.approx(certificate_bytes(role, len(name)), abs=8)


def test_a_signed_message_is_as_long_as_one_that_somebody_signed(tmp_path: Path) -> None:
    signer = deployment(tmp_path / "pki").identity(Party(role=Role.CLIENT, name="client-00")).signer
    for message in (
        Join(plan_digest=DIGEST, client=ClientId("client-00"), commitment=DIGEST),
        Shares(plan_digest=DIGEST, roster_digest=DIGEST, client=ClientId("client-00"), sealed=(bytes(88),) * 30),
    ):
        real = len(codec.signed_to_bytes(codec.sign(message, signer)))
        assert real == pytest.approx(signed_bytes(message, Role.CLIENT, 9), abs=8)


def test_a_seal_carries_a_key_holders_certificate() -> None:
    seal = RosterSeal(key_id=KeyId(bytes(32)), roster_digest=DIGEST, holder=HolderId("north"))
    longer = signed_bytes(seal, Role.KEY_HOLDER, 5) - signed_bytes(seal, Role.CLIENT, 5)
    assert longer == certificate_bytes(Role.KEY_HOLDER, 5) - certificate_bytes(Role.CLIENT, 5)


def test_a_frame_and_a_record_for_every_16_kib() -> None:
    assert on_wire(0) == 5 + 31
    assert on_wire(16_379) == 16_379 + 5 + 31
    assert on_wire(16_380) == 16_380 + 5 + 62


def test_a_list_of_shares_is_as_long_as_the_coordinators_answer() -> None:
    question = Question(clients=60, values=100, name_bytes=9)
    numbers = plan_numbers(60, corrupt_fraction=0.05, dropout_fraction=0.1, min_contributors=question.least)
    answer = masking_service_pb2.WaitForSharesResponse(
        standing=masking_service_pb2.Standing(phase=round_pb2.PHASE_UPLOADING),
        ready=True,
        sharers=range(60),
        sealed=[
            masking_service_pb2.SealedShare(sender=place, sealed=bytes(88))
            for place in range(1, numbers.neighbours + 1)
        ],
    )
    told = masking_client(question.masking_job(), numbers).down["shares"]
    assert on_wire(answer.ByteSize()) == pytest.approx(told, abs=4)


def test_what_comes_back_grows_with_what_goes_out() -> None:
    def called(up: int, down: int) -> tuple[int, int]:
        made = with_overhead({"a": up}, {"a": down}, calls=3, dials=Role.CLIENT, serves=Role.COORDINATOR, name=9)
        return made.total_up - up, made.total_down - down

    quiet, loud = called(0, 0), called(10**9, 0)
    assert loud[0] == quiet[0]
    assert loud[1] > quiet[1] + 10_000
    assert called(0, 10**9)[0] > quiet[0] + 10_000
