"""Renewing without revoking, and revoking one certificate of several."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from secagg.certificates import RevocationReason
from secagg.errors import CertificateError, ConfigError, NotFoundError
from tests.pki_material import ALICE, NORTH, NOW, Deployment, deployment


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki", at=NOW)


def test_the_one_before_is_not_revoked_and_the_hosts_stay(made: Deployment) -> None:
    made.issue(NORTH, hosts=["north.example.org", "10.0.0.7"])
    before = made.identity(NORTH)
    made.pki.renew(NORTH, at=NOW)
    after = made.identity(NORTH)
    assert after.signer.certificate != before.signer.certificate
    assert after.trust.verify_certificate(before.signer.certificate, at=NOW) == NORTH
    assert [one.state(NOW) for one in made.pki.issued()] == ["valid", "valid"]
    for name in (b"north.example.org", bytes([10, 0, 0, 7])):
        assert name in after.signer.certificate


def test_one_certificate_of_a_party_is_revoked_by_its_number(made: Deployment) -> None:
    before = made.identity(ALICE)
    made.pki.renew(ALICE, at=NOW)
    first, second = made.pki.issued()
    assert made.pki.revoke(ALICE, at=NOW, serial=first.serial) == 1

    reloaded = made.identity(ALICE)
    with pytest.raises(CertificateError, match="revoked"):
        reloaded.trust.verify_certificate(before.signer.certificate, at=NOW)
    assert [one.state(NOW) for one in made.pki.issued()] == ["revoked", "valid"]
    assert second.serial != first.serial


def test_only_who_has_a_certificate_gets_a_newer_one(made: Deployment) -> None:
    with pytest.raises(NotFoundError, match="no certificate to renew"):
        made.pki.renew(ALICE, at=NOW)
    made.issue(ALICE)
    made.pki.revoke(ALICE, at=NOW)
    with pytest.raises(NotFoundError, match="no certificate to renew"):
        made.pki.renew(ALICE, at=NOW)


def test_an_expired_certificate_can_be_renewed(made: Deployment) -> None:
    made.issue(NORTH, days=1)
    later = NOW + timedelta(days=3)
    made.pki.renew(NORTH, at=later)
    assert [one.state(later) for one in made.pki.issued()] == ["expired", "valid"]


def test_hosts_that_are_not_known_any_more_are_asked_for(made: Deployment) -> None:
    (made.issue(NORTH) / "cert.pem").unlink()
    with pytest.raises(ConfigError, match="hosts of key-holder/north are not known"):
        made.pki.renew(NORTH, at=NOW)
    assert len(made.pki.issued()) == 1
    made.pki.renew(NORTH, at=NOW, hosts=["north.example.org"])
    assert b"north.example.org" in made.identity(NORTH).signer.certificate


def test_another_partys_number_revokes_nothing(made: Deployment) -> None:
    made.issue(ALICE)
    made.issue(NORTH)
    north = made.pki.issued()[1].serial
    with pytest.raises(NotFoundError, match="no certificate"):
        made.pki.revoke(ALICE, at=NOW, serial=north)
    assert [one.state(NOW) for one in made.pki.issued()] == ["valid", "valid"]


def test_the_index_of_an_older_version_is_read(made: Deployment) -> None:
    made.issue(ALICE)
    made.pki.revoke(ALICE, at=NOW, reason=RevocationReason.KEY_COMPROMISE)
    path = made.directory / "index.json"
    content = json.loads(path.read_bytes())
    assert content["certificates"][0].pop("reason") == "key-compromise"
    path.write_text(json.dumps(content))
    [one] = made.pki.issued()
    assert (one.state(NOW), one.reason) == ("revoked", RevocationReason.UNSPECIFIED)
