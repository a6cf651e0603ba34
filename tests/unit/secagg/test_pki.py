"""`secagg.pki`: the files it makes, who may read them, and what it refuses."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from secagg.certificates import make_certificate, new_private_key
from secagg.errors import CertificateError, ConfigError, ConflictError, NotFoundError, StorageError, UsageError
from secagg.party import Party, Role
from secagg.pki import Pki
from secagg.tls_identity import TlsIdentity
from secagg.trust import TrustRoot
from tests.pki_material import ALICE, COORDINATOR, NORTH, NOW, Deployment, authority, deployment


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki", at=NOW)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _certificate(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())


def test_private_files_are_private(made: Deployment) -> None:
    alice = made.issue(ALICE)
    assert _mode(made.directory) == _mode(alice) == 0o700
    assert (
        _mode(made.directory / "ca.key.pem")
        == _mode(alice / "key.pem")
        == _mode(made.directory / "index.json")
        == 0o600
    )
    assert sorted(path.name for path in alice.iterdir()) == ["ca.pem", "cert.pem", "crl.pem", "key.pem"]


def test_an_issued_certificate_holds_for_its_party(made: Deployment) -> None:
    trust = TrustRoot.from_pem((made.directory / "ca.pem").read_bytes(), (made.directory / "crl.pem").read_bytes())
    for party in (ALICE, COORDINATOR, NORTH):
        der = _certificate(made.issue(party)).public_bytes(Encoding.DER)
        assert trust.verify_certificate(der, at=NOW) == party


def test_a_servers_certificate_names_its_hosts(made: Deployment) -> None:
    names = _certificate(made.issue(NORTH, hosts=["north.example.org", "10.0.0.7", "localhost"])).extensions
    san = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == [NORTH.server_name, "localhost", "north.example.org"]
    assert [str(one) for one in san.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.0.0.7"]


@pytest.mark.parametrize(
    ("party", "host"),
    [
        (ALICE, "alice.example.org"),
        (NORTH, COORDINATOR.server_name),
        (NORTH, COORDINATOR.server_name.upper()),
        (NORTH, "é"),
    ],
)
def test_host_names_that_are_not_given_out(made: Deployment, party: Party, host: str) -> None:
    with pytest.raises(UsageError, match=r"host name|DNS name"):
        made.issue(party, hosts=[host])
    assert made.pki.issued() == ()


def test_no_certificate_outlives_its_ca(made: Deployment) -> None:
    with pytest.raises(UsageError, match="outlive its CA"):
        made.issue(ALICE, days=3651)


def test_nothing_is_overwritten_unless_forced_and_then_the_old_is_revoked(made: Deployment) -> None:
    old = _certificate(made.issue(ALICE)).public_bytes(Encoding.DER)
    with pytest.raises(ConflictError, match="client/alice has a certificate already"):
        made.issue(ALICE)
    assert _certificate(made.pki.path_of(ALICE)).public_bytes(Encoding.DER) == old
    made.issue(ALICE, force=True)
    assert [one.state(NOW) for one in made.pki.issued()] == ["revoked", "valid"]
    trust = made.identity(ALICE).trust
    with pytest.raises(CertificateError, match="revoked"):
        trust.verify_certificate(old, at=NOW)


def test_a_second_init_keeps_the_first_ca(made: Deployment) -> None:
    before = (made.directory / "ca.key.pem").read_bytes()
    with pytest.raises(ConflictError, match="already holds a CA"):
        made.pki.init(at=NOW)
    assert (made.directory / "ca.key.pem").read_bytes() == before


def test_two_cas_never_share_a_name(tmp_path: Path, made: Deployment) -> None:
    other = deployment(tmp_path / "other", at=NOW)
    subjects = {
        x509.load_pem_x509_certificate((one.directory / "ca.pem").read_bytes()).subject for one in (made, other)
    }
    assert len(subjects) == 2


def test_revoking_reaches_every_partys_copy_of_the_list(made: Deployment) -> None:
    made.issue(ALICE)
    north = made.issue(NORTH)
    assert made.pki.revoke(ALICE, at=NOW) == 1
    assert (north / "crl.pem").read_bytes() == (made.directory / "crl.pem").read_bytes()
    with pytest.raises(CertificateError, match="client/alice was revoked"):
        TlsIdentity.load(made.pki.path_of(ALICE), at=NOW)
    with pytest.raises(NotFoundError, match="no certificate to revoke"):
        made.pki.revoke(ALICE, at=NOW)


def test_the_revocation_lists_number_grows_and_its_end_is_as_asked(made: Deployment) -> None:
    def newest() -> x509.CertificateRevocationList:
        return x509.load_pem_x509_crl((made.directory / "crl.pem").read_bytes())

    first = newest()
    made.pki.renew_revocation_list(at=NOW, days=3)
    numbers = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in (first, newest())]
    assert numbers == [1, 2]
    assert newest().next_update_utc == NOW + timedelta(days=3)


def test_states_follow_time(made: Deployment) -> None:
    made.issue(ALICE, days=10)
    [issued] = made.pki.issued()
    assert issued.state(NOW) == "valid"
    assert issued.state(NOW + timedelta(days=11)) == "expired"


def test_an_encrypted_ca_key_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    Pki(directory=directory, passphrase=b"correct horse").init(at=NOW)
    assert b"ENCRYPTED" in (directory / "ca.key.pem").read_bytes()
    for wrong in (None, b"wrong"):
        with pytest.raises(ConfigError, match="does not open"):
            Pki(directory=directory, passphrase=wrong).issue(ALICE, at=NOW)
    opened = Pki(directory=directory, passphrase=b"correct horse")
    opened.issue(ALICE, at=NOW)
    assert "horse" not in repr(opened)


def test_a_ca_key_that_others_may_read_is_refused(made: Deployment) -> None:
    (made.directory / "ca.key.pem").chmod(0o640)
    with pytest.raises(ConfigError, match="others on this machine may read"):
        made.issue(ALICE)


def test_a_ca_key_of_another_ca_is_refused(tmp_path: Path, made: Deployment) -> None:
    other = deployment(tmp_path / "other", at=NOW)
    (made.directory / "ca.key.pem").write_bytes((other.directory / "ca.key.pem").read_bytes())
    with pytest.raises(ConfigError, match="does not belong"):
        made.issue(ALICE)


def test_a_missing_ca_key_is_told(made: Deployment) -> None:
    (made.directory / "ca.key.pem").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        made.issue(ALICE)


@pytest.mark.parametrize("directory", ["nowhere", "empty"])
def test_a_directory_without_a_ca_is_told(tmp_path: Path, directory: str) -> None:
    (tmp_path / "empty").mkdir()
    pki = Pki(directory=tmp_path / directory)
    for operation in (pki.issued, lambda: pki.issue(ALICE, at=NOW), lambda: pki.revoke(ALICE, at=NOW)):
        with pytest.raises(ConfigError, match="holds no CA"):
            operation()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"revocation_list_number": 1, "certificates": [{"serial": "zz"}]}', "[" * 100_000],
)
def test_a_damaged_index_is_told(made: Deployment, content: str) -> None:
    (made.directory / "index.json").write_text(content)
    with pytest.raises(StorageError, match="is damaged"):
        made.issue(ALICE)


def test_a_missing_index_is_told(made: Deployment) -> None:
    (made.directory / "index.json").unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        made.issue(ALICE)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made"):
        Pki(directory=tmp_path / "file" / "pki").init(at=NOW)


def test_a_lock_that_cannot_be_taken_is_told(made: Deployment) -> None:
    (made.directory / ".lock").unlink()
    (made.directory / ".lock").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        made.issue(ALICE)


def test_the_index_holds_what_was_issued_before_the_files_exist(made: Deployment) -> None:
    (made.directory / "client").write_text("in the way")
    with pytest.raises(StorageError):
        made.issue(ALICE)
    assert [one.party for one in made.pki.issued()] == [ALICE]


def test_issuing_at_once_loses_nothing(made: Deployment) -> None:
    parties = [Party(role=Role.CLIENT, name=f"c{number}") for number in range(8)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(made.issue, parties))
    assert {one.party for one in made.pki.issued()} == set(parties)


def test_no_temporary_file_is_left(made: Deployment) -> None:
    made.issue(ALICE)
    names = {path.name for path in made.directory.rglob(".*")}
    assert names == {".lock"}


class TestTlsIdentity:
    def test_it_is_who_the_certificate_says(self, made: Deployment) -> None:
        identity = made.identity(NORTH)
        assert identity.party == identity.signer.party == NORTH
        assert repr(identity) == "TlsIdentity(key-holder/north)"

    @pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem", "crl.pem"])
    def test_each_file_is_needed(self, made: Deployment, name: str) -> None:
        directory = made.issue(NORTH)
        (directory / name).unlink()
        with pytest.raises(ConfigError, match=f"{name} cannot be read"):
            TlsIdentity.load(directory, at=NOW)

    @pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem", "crl.pem"])
    def test_each_file_is_checked(self, made: Deployment, name: str) -> None:
        directory = made.issue(NORTH)
        (directory / name).write_text("nonsense")
        with pytest.raises(CertificateError):
            TlsIdentity.load(directory, at=NOW)

    def test_a_key_that_anyone_may_read_is_refused(self, made: Deployment) -> None:
        directory = made.issue(NORTH)
        (directory / "key.pem").chmod(0o644)
        with pytest.raises(ConfigError, match="anyone on this machine may read"):
            TlsIdentity.load(directory, at=NOW)

    def test_a_key_of_another_certificate_is_refused(self, made: Deployment) -> None:
        directory, other = made.issue(NORTH), made.issue(COORDINATOR)
        (directory / "key.pem").write_bytes((other / "key.pem").read_bytes())
        with pytest.raises(CertificateError, match="does not belong"):
            TlsIdentity.load(directory, at=NOW)

    def test_a_key_on_another_curve_is_refused(self, made: Deployment) -> None:
        directory = made.issue(NORTH)
        (directory / "key.pem").write_bytes(_ed25519_pem())
        with pytest.raises(CertificateError, match="holds no P-256 key"):
            TlsIdentity.load(directory, at=NOW)

    @pytest.mark.parametrize(("days", "reason"), [(-1, "not valid before"), (366, "expired")])
    def test_dates_are_checked(self, made: Deployment, days: int, reason: str) -> None:
        directory = made.issue(NORTH)
        with pytest.raises(CertificateError, match=reason):
            TlsIdentity.load(directory, at=NOW + timedelta(days=days))

    def test_a_foreign_ca_is_refused(self, tmp_path: Path, made: Deployment) -> None:
        directory, other = made.issue(NORTH), deployment(tmp_path / "other", at=NOW)
        for name in ("ca.pem", "crl.pem"):
            (directory / name).write_bytes((other.directory / name).read_bytes())
        with pytest.raises(CertificateError, match="not issued by the CA"):
            TlsIdentity.load(directory, at=NOW)

    def test_another_role_than_expected_is_refused(self, made: Deployment) -> None:
        directory = made.issue(NORTH)
        assert TlsIdentity.load(directory, at=NOW, expect_role=Role.KEY_HOLDER).party == NORTH
        with pytest.raises(CertificateError, match="not for a coordinator"):
            TlsIdentity.load(directory, at=NOW, expect_role=Role.COORDINATOR)


def _ed25519_pem() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    return ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_repr_of_a_ca_shows_no_key(made: Deployment) -> None:
    assert repr(authority()) == "Authority(CN=secagg CA under test)"
    key = load_pem_private_key((made.directory / "ca.key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_serial_numbers_never_repeat() -> None:
    ca = authority()
    serials = {
        make_certificate(ca, ALICE, new_private_key().public_key(), at=NOW, days=1).serial_number for _ in range(20)
    }
    assert len(serials) == 20
