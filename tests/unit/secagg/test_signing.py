"""A signature says who, what and what for; each test changes one of the three."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from secagg import labels
from secagg.certificates import make_certificate, new_private_key
from secagg.errors import CertificateError, MessageError, UsageError
from secagg.identity import Party, Role, Signer, TrustRoot, read_certificate, verify_signed
from tests.pki_material import ALICE, NORTH, NOW, Crafted, authority

CA = authority()
TRUST = TrustRoot((CA.certificate,))
BOB = Party(role=Role.CLIENT, name="bob")
PAYLOAD = b"a join"


def _signer(party: Party) -> Signer:
    key = new_private_key()
    certificate = make_certificate(CA, party, key.public_key(), at=NOW, days=30)
    return Signer(private_key=key, certificate=certificate.public_bytes(Encoding.DER))


ALICE_SIGNS = _signer(ALICE)
SIGNED = ALICE_SIGNS.sign(labels.JOIN, PAYLOAD)


def test_a_signature_names_its_signer() -> None:
    party = verify_signed(SIGNED, labels.JOIN, trust=TRUST, at=NOW, expect_role=Role.CLIENT, expect_name="alice")
    assert party == ALICE == ALICE_SIGNS.party
    assert SIGNED.payload == PAYLOAD
    assert SIGNED.certificate == ALICE_SIGNS.certificate


@pytest.mark.parametrize(
    ("changed", "label"),
    [
        (replace(SIGNED, payload=PAYLOAD + b"\x00"), labels.JOIN),
        (replace(SIGNED, payload=b""), labels.JOIN),
        (replace(SIGNED, signature=b""), labels.JOIN),
        (replace(SIGNED, signature=SIGNED.signature + b"\x00"), labels.JOIN),
        (replace(SIGNED, signature=b"\x00" * 72), labels.JOIN),
        (replace(SIGNED, signature=bytes(1 << 20)), labels.JOIN),
        (replace(SIGNED, certificate=_signer(ALICE).certificate), labels.JOIN),
        (SIGNED, labels.UPLOAD),
    ],
)
def test_a_changed_message_or_another_label_is_refused(changed: object, label: bytes) -> None:
    with pytest.raises(MessageError, match="does not fit"):
        verify_signed(changed, label, trust=TRUST, at=NOW, expect_role=Role.CLIENT)  # type: ignore[arg-type]


def test_the_bytes_under_the_signature_are_as_specified() -> None:
    framed = b"secagg/v1/join" + b"\x00" + b"\x06\x00\x00\x00\x00\x00\x00\x00" + b"a join"
    key = read_certificate(SIGNED.certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(SIGNED.signature, framed, ec.ECDSA(SHA256()))


def test_bytes_cannot_move_between_label_and_payload() -> None:
    longer = ALICE_SIGNS.sign(b"join", b"x\x00y")
    shorter = replace(longer, payload=b"y")
    with pytest.raises(MessageError):
        verify_signed(shorter, b"joinx", trust=TRUST, at=NOW, expect_role=Role.CLIENT)


@pytest.mark.parametrize(("role", "name"), [(Role.COORDINATOR, None), (Role.CLIENT, "bob"), (Role.KEY_HOLDER, "alice")])
def test_another_partys_signature_is_refused(role: Role, name: str | None) -> None:
    with pytest.raises(MessageError, match=r"signed by client/alice, and .* must sign it"):
        verify_signed(SIGNED, labels.JOIN, trust=TRUST, at=NOW, expect_role=role, expect_name=name)


def test_an_expired_signers_message_is_refused() -> None:
    later = NOW + timedelta(days=31)
    with pytest.raises(CertificateError, match="expired"):
        verify_signed(SIGNED, labels.JOIN, trust=TRUST, at=later, expect_role=Role.CLIENT)


def test_a_foreign_signers_message_is_refused() -> None:
    with pytest.raises(CertificateError, match="not issued"):
        verify_signed(SIGNED, labels.JOIN, trust=TrustRoot((authority().certificate,)), at=NOW, expect_role=Role.CLIENT)


def test_two_signatures_of_one_payload_differ_and_both_hold() -> None:
    again = ALICE_SIGNS.sign(labels.JOIN, PAYLOAD)
    assert again.signature != SIGNED.signature
    assert again.payload == SIGNED.payload
    verify_signed(again, labels.JOIN, trust=TRUST, at=NOW, expect_role=Role.CLIENT)


@pytest.mark.parametrize("label", [b"", b"with\x00zero", b"with space", b"x" * 65, b"caf\xc3\xa9"])
def test_what_is_no_label_signs_nothing(label: bytes) -> None:
    with pytest.raises(UsageError, match="label"):
        ALICE_SIGNS.sign(label, PAYLOAD)


def test_every_label_is_a_label_and_none_is_used_twice() -> None:
    constants = [value for name, value in vars(labels).items() if name.isupper() and isinstance(value, bytes)]
    assert len(constants) == len(set(constants)) > 0
    assert all(labels.is_label(one) for one in constants)


def test_a_key_that_does_not_belong_to_the_certificate_is_refused() -> None:
    with pytest.raises(CertificateError, match="does not belong"):
        Signer(private_key=new_private_key(), certificate=ALICE_SIGNS.certificate)


def test_a_certificate_that_names_nobody_makes_no_signer() -> None:
    key = new_private_key()
    with pytest.raises(CertificateError, match="0 URI names"):
        Signer(private_key=key, certificate=Crafted(uris=(), key=key).der(CA))


def test_repr_shows_no_key_and_no_payload() -> None:
    key = new_private_key()
    certificate = make_certificate(CA, NORTH, key.public_key(), at=NOW, days=30).public_bytes(Encoding.DER)
    signer = Signer(private_key=key, certificate=certificate)
    assert repr(signer) == "Signer(key-holder/north)"
    assert repr(SIGNED) == "SignedMessage()"
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert secret.hex() not in repr(vars(type(signer)))
