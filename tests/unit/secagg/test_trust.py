"""What `TrustRoot` refuses, one certificate for each of its checks (DESIGN section 3, "Identity")."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from secagg.certificates import (
    Authority,
    Revocation,
    make_certificate,
    make_revocation_list,
    new_private_key,
)
from secagg.errors import CertificateError
from secagg.party import Party
from secagg.trust import MAX_CERTIFICATE_BYTES, TrustRoot, _vouched
from tests.pki_material import ALICE, AUDITOR, COORDINATOR, DIAL, NORTH, NOW, OPERATOR, SERVE, Crafted, authority

CA = authority()
TRUST = TrustRoot((CA.certificate,))
DAY = timedelta(days=1)


def _issued(party: Party, ca: Authority = CA) -> x509.Certificate:
    return make_certificate(ca, party, new_private_key().public_key(), at=NOW, days=30)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("party", [ALICE, COORDINATOR, NORTH, OPERATOR, AUDITOR], ids=str)
def test_own_certificates_of_every_role_are_accepted(party: Party) -> None:
    assert TRUST.verify_certificate(_der(_issued(party)), at=NOW) == party


def test_the_crafted_certificate_is_accepted_while_nothing_is_wrong_with_it() -> None:
    assert TRUST.verify_certificate(Crafted().der(CA), at=NOW) == ALICE


SERVER = {"uris": (NORTH.uri,), "usages": (DIAL, SERVE), "hosts": (NORTH.server_name, "localhost")}


def test_a_crafted_server_certificate_is_accepted_while_nothing_is_wrong_with_it() -> None:
    assert TRUST.verify_certificate(Crafted(**SERVER).der(CA), at=NOW) == NORTH


@pytest.mark.parametrize(
    ("crafted", "reason"),
    [
        (Crafted(uris=()), "0 URI names"),
        (Crafted(uris=(ALICE.uri, "secagg://client/bob")), "2 URI names"),
        (Crafted(uris=("https://example.org/alice",)), "not of the form"),
        (Crafted(uris=("secagg://client",)), "not of the form"),
        (Crafted(uris=("secagg://emperor/alice",)), "unknown role"),
        (Crafted(uris=("secagg://client/Alice",)), "breaks the syntax"),
        (Crafted(hash_algorithm=SHA512()), "not issued by the CA"),
        (Crafted(not_before=NOW + DAY, not_after=NOW + 2 * DAY), "not valid before"),
        (Crafted(not_before=NOW - 2 * DAY, not_after=NOW - DAY), "expired"),
        (Crafted(key=ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (Crafted(is_ca=True), "a CA's certificate"),
        (Crafted(is_ca=None), "a CA's certificate"),
        (Crafted(signs=False), "key usage"),
        (Crafted(has_key_usage=False), "key usage"),
        (Crafted(signs_certificates=True), "key usage"),
        (Crafted(usages=None), "extended key usages"),
        (Crafted(usages=(SERVE,)), "extended key usages"),
        (Crafted(usages=(DIAL, SERVE)), "extended key usages"),
        (Crafted(**{**SERVER, "usages": (DIAL,)}), "extended key usages"),
        (Crafted(critical_extension=True), "critical extension"),
        (Crafted(hosts=(COORDINATOR.server_name,)), "DNS names"),
        (Crafted(**{**SERVER, "hosts": ("localhost",)}), "DNS names"),
        (Crafted(**{**SERVER, "hosts": (COORDINATOR.server_name,)}), "DNS names"),
        (Crafted(**{**SERVER, "hosts": (NORTH.server_name, COORDINATOR.server_name.upper())}), "DNS names"),
    ],
)
def test_a_certificate_with_one_thing_wrong_is_refused_by_name(crafted: Crafted, reason: str) -> None:
    with pytest.raises(CertificateError, match=reason):
        TRUST.verify_certificate(crafted.der(CA), at=NOW)


def test_a_foreign_ca_of_the_same_name_is_refused() -> None:
    foreign = authority()
    assert foreign.certificate.subject == CA.certificate.subject
    with pytest.raises(CertificateError, match="client/alice was not issued by the CA"):
        TRUST.verify_certificate(_der(_issued(ALICE, foreign)), at=NOW)


def test_a_self_signed_certificate_is_refused() -> None:
    key = new_private_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crafted")])
    itself = Authority(certificate=_named(name, key), private_key=key)
    with pytest.raises(CertificateError, match="not issued by the CA"):
        TRUST.verify_certificate(Crafted(key=key).der(itself), at=NOW)


def _named(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    return builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + DAY).sign(key, SHA256())


def test_only_what_the_ca_issued_is_remembered() -> None:
    """A stranger's certificate would stay in memory, and drive out those of the deployment."""
    stranger = authority()
    before = _vouched.cache_info().currsize
    for _ in range(3):
        with pytest.raises(CertificateError):
            TRUST.verify_certificate(_der(_issued(ALICE, stranger)), at=NOW)
    assert _vouched.cache_info().currsize == before
    own = _der(_issued(ALICE))
    for _ in range(3):
        assert TRUST.verify_certificate(own, at=NOW) == ALICE
    assert _vouched.cache_info().currsize == before + 1


def test_what_is_remembered_is_held_against_dates_and_revocations_each_time() -> None:
    own = _issued(ALICE)
    revoking = TrustRoot(
        (CA.certificate,),
        (make_revocation_list(CA, [Revocation(serial=own.serial_number, at=NOW)], number=1, at=NOW, days=30),),
    )
    assert TRUST.verify_certificate(_der(own), at=NOW) == ALICE
    with pytest.raises(CertificateError, match="expired"):
        TRUST.verify_certificate(_der(own), at=NOW + 31 * DAY)
    with pytest.raises(CertificateError, match="revoked"):
        revoking.verify_certificate(_der(own), at=NOW)
    with pytest.raises(CertificateError, match="not issued by the CA"):
        TrustRoot((authority().certificate,)).verify_certificate(_der(own), at=NOW)


def test_what_one_ca_did_not_issue_is_not_remembered_against_another_of_its_name() -> None:
    """Nor for it: during a change-over both are trusted, whichever is asked first, and afterwards one of them alone."""
    foreign, own = authority(), _der(_issued(ALICE))
    alone = TrustRoot((foreign.certificate,))
    for _ in range(2):
        with pytest.raises(CertificateError, match="not issued by the CA"):
            alone.verify_certificate(own, at=NOW)
        for authorities in ((foreign, CA), (CA, foreign)):
            both = TrustRoot(tuple(one.certificate for one in authorities))
            assert both.verify_certificate(own, at=NOW) == ALICE


def test_what_is_remembered_counts_no_earlier_than_before() -> None:
    own = _der(_issued(ALICE))
    assert TRUST.verify_certificate(own, at=NOW) == ALICE
    with pytest.raises(CertificateError, match="not valid before"):
        TRUST.verify_certificate(own, at=NOW - 6 * DAY)


def test_a_certificate_expires_at_its_own_time_and_counts_until_then() -> None:
    der = _der(_issued(ALICE))
    end = NOW + timedelta(days=30)
    assert TRUST.verify_certificate(der, at=end) == ALICE
    with pytest.raises(CertificateError, match=r"client/alice expired on 2026-12-23 12:00"):
        TRUST.verify_certificate(der, at=end + timedelta(seconds=1))


def test_an_expired_ca_vouches_for_nobody() -> None:
    short = authority(at=NOW - 10 * DAY, days=9)
    with pytest.raises(CertificateError, match="CA's certificate expired"):
        TrustRoot((short.certificate,)).verify_certificate(Crafted().der(short), at=NOW)


def test_an_oversized_certificate_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(CertificateError, match="larger"):
        TRUST.verify_certificate(bytes(MAX_CERTIFICATE_BYTES + 1), at=NOW)


@pytest.mark.parametrize("der", [b"", b"\x30\x00", _der(_issued(ALICE))[:-1]])
def test_damaged_bytes_are_refused(der: bytes) -> None:
    with pytest.raises(CertificateError, match="cannot be read"):
        TRUST.verify_certificate(der, at=NOW)


class TestAuthorities:
    def test_several_cas_count_during_a_change_over(self) -> None:
        other = authority()
        trust = TrustRoot((CA.certificate, other.certificate))
        for ca in (CA, other):
            assert trust.verify_certificate(_der(_issued(ALICE, ca)), at=NOW) == ALICE

    def test_no_ca_at_all_is_refused(self) -> None:
        with pytest.raises(CertificateError, match="no CA"):
            TrustRoot(())

    @pytest.mark.parametrize(
        "crafted",
        [
            Crafted(),
            Crafted(is_ca=True),
            Crafted(signs_certificates=True),
            Crafted(is_ca=None, signs_certificates=True),
        ],
    )
    def test_a_certificate_that_is_no_ca_is_not_trusted_as_one(self, crafted: Crafted) -> None:
        with pytest.raises(CertificateError, match="is not a CA's"):
            TrustRoot((crafted.certificate(CA),))

    def test_a_ca_on_another_curve_is_refused(self) -> None:
        crafted = Crafted(is_ca=True, signs_certificates=True, key=ec.generate_private_key(ec.SECP384R1()))
        with pytest.raises(CertificateError, match="P-256"):
            TrustRoot((crafted.certificate(CA),))

    def test_pem_that_is_none_is_refused(self) -> None:
        with pytest.raises(CertificateError, match="cannot be read"):
            TrustRoot.from_pem(b"not a certificate")

    def test_repr_names_the_ca(self) -> None:
        assert repr(TRUST) == "TrustRoot(CN=secagg CA under test)"


def _list(*serials: int, ca: Authority = CA, at: object = NOW) -> x509.CertificateRevocationList:
    revoked = [Revocation(serial=serial, at=NOW) for serial in serials]
    return make_revocation_list(ca, revoked, number=1, at=at, days=10)  # type: ignore[arg-type]


class TestRevocation:
    def test_a_revoked_certificate_is_refused_and_others_are_not(self) -> None:
        revoked, other = _issued(ALICE), _issued(OPERATOR)
        trust = TrustRoot((CA.certificate,), (_list(revoked.serial_number),))
        with pytest.raises(CertificateError, match="client/alice was revoked"):
            trust.verify_certificate(_der(revoked), at=NOW)
        assert trust.verify_certificate(_der(other), at=NOW) == OPERATOR

    def test_a_list_that_ran_out_stops_everybody(self) -> None:
        early = authority(at=NOW - 5 * DAY)
        trust = TrustRoot((early.certificate,), (_list(ca=early),))
        der = Crafted(not_before=NOW - 3 * DAY, not_after=NOW + 30 * DAY).der(early)
        assert trust.verify_certificate(der, at=NOW + 10 * DAY) == ALICE
        with pytest.raises(CertificateError, match="revocation list is not valid after"):
            trust.verify_certificate(der, at=NOW + 11 * DAY)

    def test_a_list_signed_by_a_foreign_ca_of_the_same_name_is_refused(self) -> None:
        with pytest.raises(CertificateError, match="no revocation list is signed by the CA"):
            TrustRoot((CA.certificate,), (_list(ca=authority()),))

    def test_a_list_in_another_name_is_refused(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone else")])
        builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(NOW).next_update(NOW + DAY)
        with pytest.raises(CertificateError, match="no revocation list"):
            TrustRoot((CA.certificate,), (builder.sign(CA.private_key, SHA256()),))

    def test_every_ca_needs_its_list_once_there_is_one(self) -> None:
        with pytest.raises(CertificateError, match="no revocation list"):
            TrustRoot((CA.certificate, authority().certificate), (_list(),))

    def test_lists_of_several_cas_are_read_from_one_file(self) -> None:
        other = authority()
        revoked = _issued(ALICE, other)
        lists = (_list(), _list(revoked.serial_number, ca=other))
        authorities = b"".join(ca.certificate.public_bytes(Encoding.PEM) for ca in (CA, other))
        trust = TrustRoot.from_pem(authorities, b"".join(one.public_bytes(Encoding.PEM) for one in lists))
        with pytest.raises(CertificateError, match="revoked"):
            trust.verify_certificate(_der(revoked), at=NOW)
        assert trust.verify_certificate(_der(_issued(ALICE)), at=NOW) == ALICE

    @pytest.mark.parametrize("pem", [b"", b"no list", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
    def test_a_file_without_a_readable_list_is_refused(self, pem: bytes) -> None:
        with pytest.raises(CertificateError, match="revocation list"):
            TrustRoot.from_pem(CA.certificate.public_bytes(Encoding.PEM), pem)


def test_what_counted_before_the_revocation_and_the_list_goes_on_counting() -> None:
    """The coordinator replays what it kept with the time at which each message came."""
    der = Crafted(not_before=NOW - 3 * DAY).der(early := authority(at=NOW - 5 * DAY))
    serial = x509.load_der_x509_certificate(der).serial_number
    trust = TrustRoot((early.certificate,), (_list(serial, ca=early, at=NOW + timedelta(hours=1)),))
    assert trust.verify_certificate(der, at=NOW - timedelta(seconds=1)) == ALICE
    for at in (NOW, NOW + timedelta(seconds=1)):
        with pytest.raises(CertificateError, match="client/alice was revoked on 2026-11-23 12:00 UTC"):
            trust.verify_certificate(der, at=at)
    assert trust.without_revocations().verify_certificate(der, at=NOW) == ALICE
