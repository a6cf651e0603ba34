"""What `secagg doctor` says of a party's four files and of the clock, each broken in its own way."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from secagg.doctor.clock import against, against_certificates, duration
from secagg.doctor.findings import Finding, Level
from tests.doctor_material import at_clock, bad, checks, examined, off_by, own_identity, the
from tests.pki_material import ALICE, COORDINATOR, NORTH, Deployment, deployment


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki")


@pytest.fixture
def alice(made: Deployment) -> Path:
    return made.issue(ALICE)


def _findings(directory: Path, **options: object) -> list[Finding]:
    _, findings = examined(directory, ALICE, at_clock(datetime.now(UTC), **options))
    return findings


def test_a_sound_identity_has_nothing_to_complain_of(alice: Path) -> None:
    findings = _findings(alice)
    assert not bad(findings)
    assert {"identity.certificate", "identity.certificate-end", "identity.revocations"} <= checks(findings)


def test_an_expired_certificate_is_named_once_with_its_day_and_the_command_that_helps(made: Deployment) -> None:
    long_ago = Deployment(directory=made.directory, at=made.at - timedelta(days=40))
    directory = long_ago.issue(ALICE, days=30)
    made.pki.renew_revocation_list(at=made.at)
    shutil.copy(made.directory / "crl.pem", directory)
    findings = _findings(directory)
    assert checks(findings, Level.BROKEN) == {"identity.certificate-expired"}
    finding = the(findings, "identity.certificate-expired")
    assert f"{made.at - timedelta(days=10):%Y-%m-%d}" in finding.says
    assert "secagg pki renew client alice" in finding.advice


def test_the_end_of_a_certificate_is_announced_as_early_as_asked(made: Deployment) -> None:
    directory = made.issue(ALICE, days=20)
    assert "identity.certificate-ends-soon" in bad(_findings(directory))
    assert "19 days" in the(_findings(directory), "identity.certificate-ends-soon").says
    assert not bad(_findings(directory, warn_days=10))


def test_an_end_of_the_ca_and_of_the_revocation_list_is_announced_too(tmp_path: Path) -> None:
    made = Deployment(directory=tmp_path / "pki", at=datetime.now(UTC))
    made.pki.init(at=made.at, days=100)
    directory = made.issue(ALICE, days=90)
    assert {"identity.ca-ends-soon", "identity.revocations-ends-soon"} & bad(_findings(directory, warn_days=120))
    assert "identity.ca-ends-soon" in bad(_findings(directory, warn_days=120))


def test_a_revocation_list_that_ran_out(made: Deployment, alice: Path) -> None:
    made.pki.renew_revocation_list(at=made.at - timedelta(days=10), days=5)
    shutil.copy(made.directory / "crl.pem", alice)
    findings = _findings(alice)
    assert "identity.revocations-expired" in checks(findings, Level.BROKEN)
    assert "renew-crl" in the(findings, "identity.revocations-expired").advice


def test_the_ca_of_another_deployment(alice: Path, tmp_path: Path) -> None:
    foreign = deployment(tmp_path / "foreign").issue(ALICE)
    for name in ("ca.pem", "crl.pem"):
        shutil.copy(foreign / name, alice)
    findings = _findings(alice)
    assert checks(findings, Level.BROKEN) == {"identity.certificate"}
    assert "not issued by the CA" in the(findings, "identity.certificate").says


def test_the_revocation_list_of_another_deployment(alice: Path, tmp_path: Path) -> None:
    shutil.copy(deployment(tmp_path / "foreign").issue(ALICE) / "crl.pem", alice)
    assert "identity.revocations-unusable" in checks(_findings(alice), Level.BROKEN)


def test_a_revoked_certificate(made: Deployment, alice: Path) -> None:
    made.pki.revoke(ALICE, at=made.at)
    shutil.copy(made.directory / "crl.pem", alice)
    assert "revoked" in the(_findings(alice), "identity.certificate").says


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("cert.pem", "identity.certificate-unreadable"),
        ("key.pem", "identity.key-unreadable"),
        ("ca.pem", "identity.ca-unreadable"),
        ("crl.pem", "identity.revocations-unreadable"),
    ],
)
@pytest.mark.parametrize("how", ["missing", "unreadable"])
def test_a_file_that_cannot_be_read_is_named(alice: Path, name: str, check: str, how: str) -> None:
    (alice / name).unlink()
    if how == "unreadable":
        # Root may read every file, and nobody a directory.
        (alice / name).mkdir()
    findings = _findings(alice)
    assert check in checks(findings, Level.BROKEN)
    assert the(findings, check).subject == str(alice / name)


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem", "crl.pem"])
def test_a_file_of_rubbish_breaks_nothing_but_the_identity(alice: Path, name: str) -> None:
    (alice / name).write_text("rubbish")
    assert checks(_findings(alice), Level.BROKEN)


@pytest.mark.parametrize(
    ("mode", "check", "level"),
    [(0o644, "identity.key-open", Level.BROKEN), (0o640, "identity.key-group", Level.WARNING)],
)
def test_a_private_key_that_others_may_read(alice: Path, mode: int, check: str, level: Level) -> None:
    (alice / "key.pem").chmod(mode)
    finding = the(_findings(alice), check)
    assert finding.level is level
    assert f"chmod 600 {alice / 'key.pem'}" in finding.advice


def test_the_key_of_another_certificate(made: Deployment, alice: Path) -> None:
    shutil.copy(made.issue(NORTH) / "key.pem", alice)
    assert "does not belong" in the(_findings(alice), "identity.certificate").says


def test_the_certificate_of_another_role(made: Deployment) -> None:
    finding = the(_findings(made.issue(COORDINATOR)), "identity.role")
    assert finding.level is Level.BROKEN
    assert "client" in finding.advice


# The clock


def test_a_clock_that_is_behind_the_certificates_is_named_with_the_hours(made: Deployment) -> None:
    own = own_identity(made, ALICE)
    own.at -= timedelta(hours=3, minutes=5, seconds=30)
    (finding,) = against_certificates(own)
    # Certificates count from five minutes before they are made.
    assert (finding.check, finding.level) == ("clock.behind", Level.BROKEN)
    assert "at least 3 h" in finding.says


def test_a_clock_behind_shows_in_the_identity_as_well(alice: Path) -> None:
    _, findings = examined(alice, ALICE, off_by(-timedelta(days=1)))
    assert "not valid before" in the(findings, "identity.certificate").says


@pytest.mark.parametrize(
    ("off", "check", "words"),
    [
        (timedelta(seconds=3), "clock.agrees", "agree"),
        (timedelta(seconds=-40), "clock.differs", "40 s behind"),
        (timedelta(minutes=2), "clock.differs", "2 min ahead of"),
        (timedelta(days=2, hours=1), "clock.wrong", "2 d 1 h ahead of"),
    ],
)
def test_another_clock_says_by_how_much(off: timedelta, check: str, words: str) -> None:
    other = datetime(2026, 11, 26, tzinfo=UTC)
    finding = against(other, other + off, "db")
    assert finding.check == check
    assert words in finding.says


def test_what_a_clock_cannot_resolve_is_not_held_against_it() -> None:
    other = datetime(2026, 11, 26, tzinfo=UTC)
    assert against(other, other + timedelta(seconds=8), "db", resolution=timedelta(seconds=4)).level is Level.OK


def test_a_duration_is_never_empty() -> None:
    assert duration(timedelta(milliseconds=3)) == "less than 1 s"
