"""Which files take the place of which while a process runs: each refusal leaves what is in force, and is said once."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from secagg import labels
from secagg.errors import CertificateError
from secagg.identity_keeper import IdentityKeeper, followed
from secagg.party import Party, Role
from secagg.signing import verify_signed
from tests.pki_material import ALICE, COORDINATOR, NORTH, NOW, Deployment, deployment

SECOND = timedelta(seconds=1)
LIMIT_SECONDS = 20.0
EAST = Party(role=Role.KEY_HOLDER, name="east")


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki", at=NOW)


@pytest.fixture
def keeper(made: Deployment) -> IdentityKeeper:
    return IdentityKeeper(made.identity(NORTH), now=lambda: NOW + SECOND)


def _renew(made: Deployment, party: Party = NORTH) -> Path:
    return made.pki.renew(party, at=NOW)


def _wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.02)


def test_a_renewed_certificate_is_taken_with_its_key(made: Deployment, keeper: IdentityKeeper) -> None:
    held, before = keeper.identity, keeper.current
    signer, trust = held.signer, held.trust
    _renew(made)
    assert keeper.current is before
    keeper.refresh()
    assert keeper.current is held.current
    assert keeper.current.certificate_pem != before.certificate_pem
    assert keeper.current.private_key_pem != before.private_key_pem
    signed = signer.sign(labels.JOIN, b"x")
    assert signed.certificate == signer.certificate == keeper.current.signer.certificate != before.signer.certificate
    assert verify_signed(signed, labels.JOIN, trust=trust, at=NOW, expect_role=Role.KEY_HOLDER) == NORTH == signer.party
    # The one before counts until its end: nobody revoked it.
    assert trust.verify_certificate(before.signer.certificate, at=NOW) == NORTH


def test_an_identity_that_was_loaded_and_not_followed_stays(made: Deployment) -> None:
    loaded = made.identity(NORTH)
    before = loaded.signer.certificate
    _renew(made)
    assert loaded.current is loaded
    assert loaded.signer.certificate == before


def test_a_revocation_is_taken_and_holds_for_what_was_handed_out(made: Deployment, keeper: IdentityKeeper) -> None:
    trust, alice = keeper.identity.trust, made.identity(ALICE)
    made.pki.revoke(ALICE, at=NOW + SECOND)
    trust.verify_certificate(alice.signer.certificate, at=NOW + SECOND)
    keeper.refresh()
    with pytest.raises(CertificateError, match="client/alice was revoked"):
        trust.verify_certificate(alice.signer.certificate, at=NOW + SECOND)
    signed = alice.signer.sign(labels.JOIN, b"x")
    with pytest.raises(CertificateError, match="client/alice was revoked"):
        verify_signed(signed, labels.JOIN, trust=trust, at=NOW + SECOND, expect_role=Role.CLIENT)
    assert verify_signed(signed, labels.JOIN, trust=trust, at=NOW, expect_role=Role.CLIENT) == ALICE
    assert trust.without_revocations().verify_certificate(alice.signer.certificate, at=NOW + SECOND) == ALICE


def _half_written(made: Deployment) -> None:
    path = _renew(made) / "cert.pem"
    path.write_bytes(path.read_bytes()[:300])


def _only_the_key(made: Deployment) -> None:
    path = made.pki.path_of(NORTH) / "cert.pem"
    before = path.read_bytes()
    _renew(made)
    path.write_bytes(before)


def _gone(made: Deployment) -> None:
    (_renew(made) / "key.pem").unlink()


def _open_to_all(made: Deployment) -> None:
    (_renew(made) / "key.pem").chmod(0o644)


def _copy(source: Path, target: Path, *names: str) -> None:
    for name in names:
        (target / name).write_bytes((source / name).read_bytes())


def _another_name(made: Deployment) -> None:
    _copy(made.issue(EAST), made.pki.path_of(NORTH), "cert.pem", "key.pem")


def _another_role(made: Deployment) -> None:
    _copy(made.issue(COORDINATOR), made.pki.path_of(NORTH), "cert.pem", "key.pem")


def _another_ca(made: Deployment) -> None:
    foreign = deployment(made.directory.with_name("foreign"), at=NOW)
    _copy(foreign.issue(NORTH), made.pki.path_of(NORTH), "cert.pem", "key.pem")


def _not_yet(made: Deployment) -> None:
    made.pki.renew(NORTH, at=NOW + timedelta(days=1))


def _over(made: Deployment) -> None:
    made.pki.renew(NORTH, at=NOW - timedelta(days=1), days=1)


def _revoked(made: Deployment) -> None:
    path = made.pki.path_of(NORTH)
    _copy(_renew(made), made.directory, "cert.pem", "key.pem")
    serial = made.pki.issued()[-1].serial
    made.pki.revoke(NORTH, at=NOW, serial=serial)
    _copy(made.directory, path, "cert.pem", "key.pem")


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (_half_written, "no certificate that can be read"),
        (_only_the_key, "does not belong to the certificate"),
        (_gone, "cannot be read"),
        (_open_to_all, "anyone on this machine may read"),
        (_another_name, "is for key-holder/east"),
        (_another_role, "is for coordinator/main"),
        (_another_ca, "not issued by the CA"),
        (_not_yet, "not valid before"),
        (_over, "expired"),
        (_revoked, "was revoked"),
    ],
)
def test_what_may_not_replace_a_certificate_leaves_it_and_is_said_once(
    made: Deployment,
    keeper: IdentityKeeper,
    caplog: pytest.LogCaptureFixture,
    happens: Callable[[Deployment], None],
    reason: str,
) -> None:
    before = keeper.current
    happens(made)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            keeper.refresh()
    assert keeper.current.signer is before.signer
    assert (keeper.current.certificate_pem, keeper.current.private_key_pem) == (
        before.certificate_pem,
        before.private_key_pem,
    )
    [line] = [one for one in caplog.messages if one.startswith("certificate not usable")]
    assert reason in line
    assert "PRIVATE KEY" not in caplog.text


def test_what_was_refused_is_taken_once_it_is_right(made: Deployment, keeper: IdentityKeeper) -> None:
    before = keeper.current
    _only_the_key(made)
    keeper.refresh()
    _renew(made)
    keeper.refresh()
    assert (
        keeper.current.certificate_pem == (made.pki.path_of(NORTH) / "cert.pem").read_bytes() != before.certificate_pem
    )


def test_a_certificate_that_is_not_valid_yet_is_taken_when_it_is(made: Deployment) -> None:
    clock = [NOW]
    keeper = IdentityKeeper(made.identity(NORTH), now=lambda: clock[0])
    before = keeper.current
    _not_yet(made)
    keeper.refresh()
    assert keeper.current.signer is before.signer
    clock[0] = NOW + timedelta(days=1)
    keeper.refresh()
    assert keeper.current.signer is not before.signer


@pytest.mark.parametrize("spoilt", ["", "nonsense", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_a_spoilt_list_leaves_the_one_before(
    made: Deployment, keeper: IdentityKeeper, caplog: pytest.LogCaptureFixture, spoilt: str
) -> None:
    alice = made.identity(ALICE)
    made.pki.revoke(ALICE, at=NOW)
    keeper.refresh()
    (made.pki.path_of(NORTH) / "crl.pem").write_text(spoilt)
    for _ in range(3):
        keeper.refresh()
    with pytest.raises(CertificateError, match="client/alice was revoked"):
        keeper.identity.trust.verify_certificate(alice.signer.certificate, at=NOW)
    assert sum("revocation list not usable" in line for line in caplog.messages) == 1


def test_a_list_from_before_the_revocation_is_refused(
    made: Deployment, keeper: IdentityKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    alice, path = made.identity(ALICE), made.pki.path_of(NORTH) / "crl.pem"
    old = path.read_bytes()
    made.pki.revoke(ALICE, at=NOW)
    keeper.refresh()
    path.write_bytes(old)
    keeper.refresh()
    with pytest.raises(CertificateError, match="client/alice was revoked"):
        keeper.current.trust.verify_certificate(alice.signer.certificate, at=NOW)
    assert "is older than number" in caplog.text


def test_another_ca_is_not_trusted_by_a_process_that_runs(made: Deployment, keeper: IdentityKeeper) -> None:
    foreign = deployment(made.directory.with_name("foreign"), at=NOW)
    _copy(foreign.issue(NORTH), made.pki.path_of(NORTH), "ca.pem", "crl.pem", "cert.pem", "key.pem")
    keeper.refresh()
    with pytest.raises(CertificateError, match="not issued by the CA"):
        keeper.identity.trust.verify_certificate(foreign.identity(ALICE).signer.certificate, at=NOW)
    assert keeper.identity.trust.verify_certificate(made.identity(ALICE).signer.certificate, at=NOW) == ALICE


def test_a_list_is_taken_though_the_certificate_beside_it_is_no_good(
    made: Deployment, keeper: IdentityKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that revokes the reader itself: whom else it revokes must be refused all the same."""
    alice = made.identity(ALICE)
    made.pki.revoke(ALICE, at=NOW)
    made.pki.revoke(NORTH, at=NOW)
    (made.pki.path_of(NORTH) / "cert.pem").write_text("nonsense")
    for _ in range(2):
        keeper.refresh()
    with pytest.raises(CertificateError, match="client/alice was revoked"):
        keeper.identity.trust.verify_certificate(alice.signer.certificate, at=NOW)
    own = [line for line in caplog.messages if line.startswith("own certificate not usable")]
    assert [("key-holder/north was revoked" in line) for line in own] == [True]


def test_a_certificate_that_ends_is_told_in_the_log(made: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    keeper = IdentityKeeper(made.identity(NORTH), now=lambda: NOW + timedelta(days=365, minutes=1))
    keeper.refresh()
    assert "own certificate not usable" in caplog.text


def _watched_until_forgotten(tmp_path: Path) -> None:
    made = deployment(tmp_path / "pki")
    signer = followed(made.issue(NORTH), at=made.at, expect_role=Role.KEY_HOLDER).signer
    before = signer.certificate
    made.pki.renew(NORTH, at=made.at)
    _wait_until(lambda: signer.certificate != before)


def test_files_are_followed_while_anybody_holds_a_part_of_the_identity(tmp_path: Path) -> None:
    others = set(threading.enumerate())
    _watched_until_forgotten(tmp_path)
    gc.collect()
    _wait_until(lambda: not {one for one in threading.enumerate() if one.name == "identity"} - others)


def test_a_defect_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = deployment(tmp_path / "pki")
    failed = threading.Event()
    refresh = IdentityKeeper.refresh

    def failing_once(self: IdentityKeeper) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("a defect")
        refresh(self)

    monkeypatch.setattr(IdentityKeeper, "refresh", failing_once)
    signer = followed(made.issue(NORTH), at=made.at).signer
    before = signer.certificate
    made.pki.renew(NORTH, at=made.at)
    _wait_until(lambda: signer.certificate != before)
    assert failed.is_set()


def test_what_follows_shows_no_secret(made: Deployment, keeper: IdentityKeeper) -> None:
    held = keeper.identity
    assert (repr(held), repr(held.signer)) == ("TlsIdentity(key-holder/north)", "Signer(key-holder/north)")
    assert repr(held.trust) == repr(keeper.current.trust)
    with pytest.raises(CertificateError, match="does not hold the CA"):
        held.trust.verify_successor(deployment(made.directory.with_name("foreign"), at=NOW).identity(NORTH).trust)
