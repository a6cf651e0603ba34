"""Whatever bytes come, identities and digests hold."""

import re
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from he.errors import HEError
from secagg import labels
from secagg.catalogue import restore
from secagg.certificates import make_certificate, new_private_key
from secagg.digests import Canonical
from secagg.errors import CertificateError, MessageError, SecAggError, UsageError
from secagg.identity import Party, Role, SignedMessage, Signer, TrustRoot, parse_uri, verify_signed
from tests.pki_material import ALICE, NOW, authority

CA = authority()
TRUST = TrustRoot((CA.certificate,))
KEY = new_private_key()
ALICE_DER = make_certificate(CA, ALICE, KEY.public_key(), at=NOW, days=30).public_bytes(Encoding.DER)

Field = tuple[str, Any]
simple_fields = st.one_of(
    st.tuples(st.just("text"), st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
    st.tuples(st.just("integer"), st.integers(-(1 << 63), (1 << 64) - 1)),
    st.tuples(st.just("integer"), st.integers(-2, 2)),
    st.tuples(st.just("real"), st.floats(allow_nan=False, allow_infinity=False)),
    st.tuples(st.just("data"), st.binary(max_size=4)),
    st.tuples(st.just("flag"), st.booleans()),
)
fields = st.recursive(
    simple_fields,
    lambda inner: st.tuples(st.just("items"), st.lists(st.lists(inner, max_size=2), max_size=3)),
    max_leaves=6,
)


def _write(canonical: Canonical, sequence: list[Field]) -> Canonical:
    for kind, value in sequence:
        if kind == "items":
            canonical.items(value, _write)
        else:
            getattr(canonical, kind)(value)
    return canonical


def _comparable(sequence: list[Field]) -> list[object]:
    """Tell True from 1 and 1 from 1.0, which Python holds equal."""
    return [
        (kind, [_comparable(one) for one in value] if kind == "items" else (type(value), value))
        for kind, value in sequence
    ]


@given(st.lists(fields, max_size=4), st.lists(fields, max_size=4))
def test_different_fields_never_give_the_same_bytes(left: list[Field], right: list[Field]) -> None:
    same = _write(Canonical(b"label"), left).encoded() == _write(Canonical(b"label"), right).encoded()
    assert same == (_comparable(left) == _comparable(right))


@given(st.binary(max_size=3), st.binary(max_size=3), st.binary(max_size=3), st.binary(max_size=3))
def test_bytes_never_move_between_fields(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    two = [Canonical(b"label").data(one).data(other).sha256() for one, other in ((a, b), (c, d))]
    assert (two[0] == two[1]) == ((a, b) == (c, d))


@given(st.text(max_size=70))
def test_a_name_is_accepted_exactly_when_it_fits_the_syntax(name: str) -> None:
    fits = re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name) is not None
    try:
        party = Party(role=Role.CLIENT, name=name)
    except UsageError:
        assert not fits
    else:
        assert fits
        assert parse_uri(party.uri) == party


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), st.sampled_from(Role))
def test_every_name_comes_back_from_its_uri(name: str, role: Role) -> None:
    party = Party(role=role, name=name)
    assert parse_uri(party.uri) == party


@given(st.text(max_size=90))
def test_any_text_is_a_uri_of_ours_or_one_error(text: str) -> None:
    with suppress(CertificateError):
        assert parse_uri(text).uri == text


@given(st.binary(max_size=600))
def test_any_bytes_are_no_certificate_and_no_trust(data: bytes) -> None:
    with pytest.raises(CertificateError):
        TRUST.verify_certificate(data, at=NOW)
    with pytest.raises(CertificateError):
        TrustRoot.from_pem(data)
    with pytest.raises(CertificateError):
        TrustRoot.from_pem(CA.certificate.public_bytes(Encoding.PEM), data)


@given(st.integers(0, len(ALICE_DER) - 1), st.integers(1, 255))
def test_no_byte_of_a_certificate_can_be_changed(position: int, flip: int) -> None:
    changed = bytearray(ALICE_DER)
    changed[position] ^= flip
    with pytest.raises(CertificateError):
        TRUST.verify_certificate(bytes(changed), at=NOW)


@given(st.binary(max_size=100), st.binary(max_size=80), st.one_of(st.just(ALICE_DER), st.binary(max_size=400)))
def test_any_bytes_are_no_signed_message(payload: bytes, signature: bytes, certificate: bytes) -> None:
    message = SignedMessage(payload=payload, signature=signature, certificate=certificate)
    with pytest.raises((MessageError, CertificateError)):
        verify_signed(message, labels.JOIN, trust=TRUST, at=NOW, expect_role=Role.CLIENT)


@given(st.binary(max_size=200))
def test_any_payload_can_be_signed(payload: bytes) -> None:
    signed = Signer(private_key=KEY, certificate=ALICE_DER).sign(labels.JOIN, payload)
    assert verify_signed(signed, labels.JOIN, trust=TRUST, at=NOW, expect_role=Role.CLIENT) == ALICE


json_bytes = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [
            b"[" * 2000,
            b'{"reason":1}',
            b'{"reason":null}',
            b'{"reason":"\\ud800"}',
            b'{"message":"x","holders":"ab"}',
            b'{"holders":[1e999]}',
            b'{"holders":[true]}',
            b'{"reason":"x","have":"y"}',
            b'{"reason":"x","nonsense":"y"}',
            b'{"reason":"x"' + b" " * 3000 + b"}",
        ]
    ),
)
names = st.one_of(
    st.text(max_size=20), st.sampled_from(["PlanError", "RoundAbortedError", "FaultyShareError", "FormatError"])
)
statuses = st.sampled_from(["INVALID_ARGUMENT", "ABORTED", "FAILED_PRECONDITION", "OK", "INTERNAL"])


@given(names, statuses, st.text(max_size=60), json_bytes)
def test_whatever_a_peer_says_becomes_an_error_that_can_be_shown(
    name: str, status: str, text: str, data: bytes
) -> None:
    error = restore(party="the server", status=status, name=name, text=text, fields=data)
    assert isinstance(error, SecAggError | HEError)
    assert str(error).isprintable()
