"""Which revocation lists are believed, and which may take the place of which."""

from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from secagg.certificates import Revocation, RevocationReason, make_revocation_list
from secagg.errors import CertificateError
from secagg.revocations import MAX_LIST_BYTES, list_of, read_lists
from secagg.trust import TrustRoot
from tests.pki_material import NOW, authority

CA = authority()
HOUR = timedelta(hours=1)


def _list(number: int = 1, *serials: int, at: datetime = NOW) -> x509.CertificateRevocationList:
    revoked = [Revocation(serial=serial, at=at, reason=RevocationReason.KEY_COMPROMISE) for serial in serials]
    return make_revocation_list(CA, revoked, number=number, at=at, days=10)


def _trust(one: x509.CertificateRevocationList) -> TrustRoot:
    return TrustRoot((CA.certificate,), (one,))


PEM = _list(3, 5, 6).public_bytes(Encoding.PEM)


def _unnumbered(*extensions: x509.ExtensionType, until: datetime = NOW + HOUR) -> x509.CertificateRevocationList:
    builder = x509.CertificateRevocationListBuilder().issuer_name(CA.certificate.subject).last_update(NOW)
    builder = builder.next_update(until)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(CA.private_key, SHA256())


def test_a_list_says_what_was_revoked_and_why() -> None:
    read = list_of(CA.certificate, read_lists(PEM))
    assert (read.number, dict(read.dates)) == (3, {5: NOW, 6: NOW})
    [entry, _] = read_lists(PEM)[0]
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise


def test_of_several_lists_the_newest_counts() -> None:
    assert list_of(CA.certificate, (_list(1), _list(3), _list(2))).number == 3


@pytest.mark.parametrize(
    "newer",
    [
        _list(2, at=NOW),
        _list(2, at=NOW + HOUR),
        _list(3, at=NOW - HOUR),
        _list(1, 5, 6, 7, at=NOW + HOUR),
        _unnumbered(),
    ],
    ids=["smaller", "smaller but later", "same but earlier", "smaller and longer", "without a number"],
)
def test_a_list_that_may_have_forgotten_something_takes_no_ones_place(newer: x509.CertificateRevocationList) -> None:
    with pytest.raises(CertificateError, match="is older than number 3, which is in force here"):
        _trust(_list(3, 5)).verify_successor(_trust(newer))


@pytest.mark.parametrize("newer", [_list(3, 5), _list(4, 5), _list(4)], ids=["the same", "longer", "shorter"])
def test_a_later_list_takes_the_place_of_an_earlier(newer: x509.CertificateRevocationList) -> None:
    _trust(_list(3, 5)).verify_successor(_trust(newer))


def test_another_ca_or_no_list_takes_no_ones_place() -> None:
    with pytest.raises(CertificateError, match="does not hold the CA that this process trusts"):
        _trust(_list()).verify_successor(TrustRoot((authority().certificate,)))
    with pytest.raises(CertificateError, match="does not hold the CA"):
        _trust(_list()).verify_successor(TrustRoot((CA.certificate, authority().certificate)))
    with pytest.raises(CertificateError, match="the revocation list is gone"):
        _trust(_list()).verify_successor(TrustRoot((CA.certificate,)))


def test_a_list_of_changes_or_of_a_part_is_refused() -> None:
    """It would be signed by the CA, be newer, and not hold what was revoked before."""
    with pytest.raises(CertificateError, match="critical extension"):
        _trust(_unnumbered(x509.DeltaCRLIndicator(1)))


def test_a_file_without_bounds_is_refused() -> None:
    with pytest.raises(CertificateError, match="larger than"):
        read_lists(bytes(MAX_LIST_BYTES + 1))


@given(st.integers(0, len(PEM) - 1), st.integers(1, 255))
def test_no_byte_of_a_list_can_be_changed_for_another_meaning(position: int, flip: int) -> None:
    changed = bytearray(PEM)
    changed[position] ^= flip
    with suppress(CertificateError):
        assert list_of(CA.certificate, read_lists(bytes(changed))) == list_of(CA.certificate, read_lists(PEM))


@given(st.binary(max_size=400))
def test_any_bytes_are_lists_or_one_error(data: bytes) -> None:
    wrapped = b"-----BEGIN X509 CRL-----\n" + data + b"\n-----END X509 CRL-----\n"
    for pem in (data, wrapped):
        with pytest.raises(CertificateError):
            list_of(CA.certificate, read_lists(pem))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_whatever_comes_in_whatever_order_nothing_revoked_comes_back(numbers: list[int]) -> None:
    """List n holds the serials 1 to n, as a CA that only revokes makes them."""
    in_force = [_list(numbers[0], *range(1, numbers[0] + 1))]
    for number in numbers[1:]:
        newer = _list(number, *range(1, number + 1))
        with suppress(CertificateError):
            _trust(in_force[-1]).verify_successor(_trust(newer))
            in_force.append(newer)
    held = [set(list_of(CA.certificate, (one,)).dates) for one in in_force]
    assert all(before <= after for before, after in pairwise(held))
    assert held[-1] == set(range(1, max(numbers) + 1))
