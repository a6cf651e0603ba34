"""One message of one party that would end a round for all others."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from secagg import codec, labels
from secagg.certificates import make_certificate, new_private_key
from secagg.errors import MessageError, PlanError
from secagg.ids import ClientId, Digest, HolderId
from secagg.messages.ceremony import Hello, Verdict
from secagg.messages.round import Join, Upload
from secagg.party import Party
from secagg.signing import Signer
from secagg.trust import TrustRoot
from tests.job_material import a_job
from tests.pki_material import ALICE, NORTH, NOW, authority

CA = authority(at=NOW - timedelta(days=1))
TRUST = TrustRoot((CA.certificate,))
DIGEST = Digest(bytes(32))
PADDING = b"\xfa\x7f" + b"\x80\x80\x40" + bytes(1 << 20)
"""An unknown field 2047 of one MiB: parsers pass over it, and it travels with the signed bytes."""

JOIN = Join(plan_digest=DIGEST, client=ClientId("alice"), commitment=bytes(32))
UPLOAD = Upload(
    plan_digest=DIGEST,
    roster_digest=DIGEST,
    client=ClientId("alice"),
    nonce=bytes(32),
    parameters_digest=DIGEST,
    level=3,
    scale=2.0,
    chunks=1,
    root_c0=DIGEST,
    root_c1=DIGEST,
)
HELLO = Hello(
    ceremony_digest=DIGEST,
    holder=HolderId("north"),
    nonce=bytes(32),
    hpke_public_key=bytes(32),
    seed_commitment=bytes(32),
)


def signer_of(party: Party) -> Signer:
    key = new_private_key()
    certificate = make_certificate(CA, party, key.public_key(), at=NOW, days=1)
    return Signer(private_key=key, certificate=certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("message", "label", "party"),
    [
        (JOIN, labels.JOIN, ALICE),
        (UPLOAD, labels.UPLOAD, ALICE),
        (HELLO, labels.HELLO, NORTH),
    ],
    ids=["join", "upload", "hello"],
)
def test_a_padded_message_is_refused_before_it_is_passed_on(message: object, label: bytes, party: Party) -> None:
    """The roster repeats every join to everybody: four padded ones, or one of 4 MiB, and nobody can read it."""
    signer = signer_of(party)
    honest = codec.sign(message, signer)
    assert codec.authenticate(honest, type(message), trust=TRUST, at=NOW).message == message
    padded = signer.sign(label, honest.payload + PADDING)
    with pytest.raises(MessageError, match="bytes"):
        codec.authenticate(padded, type(message), trust=TRUST, at=NOW)


def test_a_verdict_names_no_more_holders_than_there_are() -> None:
    verdict = Verdict(key_id=DIGEST, holder=HolderId("north"), liars=(HolderId("x" * 900),) * 9_999)  # type: ignore[arg-type]
    signed = codec.sign(verdict, signer_of(NORTH))
    with pytest.raises(MessageError):
        codec.authenticate(signed, Verdict, trust=TRUST, at=NOW)


VANISHING = {"min_total_weight": 5e-324, "max_weight": 1e300}


def test_a_total_weight_that_vanishes_is_refused() -> None:
    with pytest.raises(PlanError, match="min_total_weight"):
        a_job(**VANISHING)


def test_a_total_weight_that_vanishes_is_refused_on_the_wire() -> None:
    wire = codec.job_spec_to_wire(a_job())
    wire.min_total_weight, wire.max_weight = VANISHING["min_total_weight"], VANISHING["max_weight"]
    with pytest.raises(MessageError, match="min_total_weight"):
        codec.job_spec_from_wire(wire)
