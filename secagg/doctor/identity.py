"""A party's four files, each looked at by itself: one that is wrong does not hide what is wrong with the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from secagg.doctor.examination import Check
from secagg.doctor.findings import Finding, Level, broken, broken_by, ok, warning
from secagg.errors import CertificateError, ConfigError
from secagg.party import Party, Role, party_of
from secagg.revocations import RevocationList, list_of, read_lists
from secagg.tls_identity import ANYONE_BITS, TlsIdentity, TlsPaths
from secagg.trust import TrustRoot, read_certificate

GROUP_BITS: Final = 0o070
_DAMAGED: Final = (ValueError, TypeError, UnsupportedAlgorithm)
_DIRECTORY_ADVICE: Final = (
    "Name a directory that `secagg pki issue` wrote in `identity`, and let this user read its files"
)


@dataclass(kw_only=True)
class ExaminedIdentity:
    """What could be read of a party's files.

    Attributes:
        paths: where they stand.
        at: now, with a time zone.
        certificate: the own certificate.
        authorities: the certificates of `ca.pem`.
        trust: CA and revocations; without revocations where these are of no use.
        loaded: everything together, when all of it holds as a service needs it.
        revocations: the list of each authority.
    """

    paths: TlsPaths
    at: datetime
    certificate: x509.Certificate | None = None
    authorities: tuple[x509.Certificate, ...] = ()
    trust: TrustRoot | None = None
    loaded: TlsIdentity | None = field(default=None, repr=False)
    revocations: tuple[RevocationList, ...] = ()

    @property
    def party(self) -> Party | None:
        """Whom the certificate names, if it can be read."""
        try:
            return None if self.certificate is None else party_of(self.certificate)
        except CertificateError:
            return None


def identity_check(own: ExaminedIdentity, roles: frozenset[Role], *, warn_days: int) -> Check:
    """Return the check that fills in `own`.

    Args:
        own: where the files stand, and when it is.
        roles: the roles that fit the configuration.
        warn_days: how long before their end certificates are warned of.
    """
    soon = timedelta(days=warn_days)
    subject = str(own.paths.certificate.parent)
    return Check(area="identity", subject=subject, run=lambda: _identity(own, roles, soon))


def _identity(own: ExaminedIdentity, roles: frozenset[Role], soon: timedelta) -> Iterator[Finding]:
    yield from _key_permissions(own.paths.private_key)
    yield from _own_certificate(own)
    yield from _authority(own)
    yield from _revocations(own)
    ends = list(_ends(own, soon))
    dates_explain_it = any(one.level is Level.BROKEN for one in ends) and is_issued_by(own.certificate, own.authorities)
    yield from (one for one in _whole(own, roles) if not (dates_explain_it and one.level is Level.BROKEN))
    yield from ends


def is_issued_by(certificate: x509.Certificate | None, authorities: tuple[x509.Certificate, ...]) -> bool:
    """Say whether one of the authorities signed the certificate; `TrustRoot` checks everything else too."""
    for authority in authorities:
        with contextlib.suppress(*_DAMAGED, InvalidSignature):
            if certificate is not None:
                certificate.verify_directly_issued_by(authority)
                return True
    return False


def _bytes_of(path: Path, check: str) -> bytes | Finding:
    try:
        return path.read_bytes()
    except OSError as error:
        return broken(check, path, f"it cannot be read: {error.strerror}", _DIRECTORY_ADVICE)


def _key_permissions(path: Path) -> Iterator[Finding]:
    content = _bytes_of(path, "identity.key-unreadable")
    if isinstance(content, Finding):
        yield content
        return
    mode = path.stat().st_mode
    if mode & ANYONE_BITS:
        yield broken("identity.key-open", path, "anyone on this machine may read the private key", _closing(path))
    elif mode & GROUP_BITS:
        yield warning("identity.key-group", path, "the group of the private key may use it", _closing(path))
    else:
        yield ok("identity.key-permissions", path, "only its owner may read the private key")


def _closing(path: Path) -> str:
    return f"Run `chmod 600 {path}`; where strangers had access, replace it with `secagg pki issue --force`"


def _own_certificate(own: ExaminedIdentity) -> Iterator[Finding]:
    path = own.paths.certificate
    content = _bytes_of(path, "identity.certificate-unreadable")
    if isinstance(content, Finding):
        yield content
        return
    try:
        own.certificate = read_certificate(x509.load_pem_x509_certificate(content).public_bytes(Encoding.DER))
    except (*_DAMAGED, CertificateError):
        says = "it holds no certificate that can be read"
        yield broken("identity.certificate-unreadable", path, says, "Copy the party's directory again from the CA")


def _authority(own: ExaminedIdentity) -> Iterator[Finding]:
    path = own.paths.authority
    content = _bytes_of(path, "identity.ca-unreadable")
    if isinstance(content, Finding):
        yield content
        return
    try:
        own.trust = TrustRoot.from_pem(content)
        own.authorities = tuple(x509.load_pem_x509_certificates(content))
    except CertificateError as error:
        yield broken_by(error, "identity.ca-unusable", path)


def _revocations(own: ExaminedIdentity) -> Iterator[Finding]:
    path = own.paths.revocations
    content = _bytes_of(path, "identity.revocations-unreadable")
    if isinstance(content, Finding):
        yield content
        return
    if own.trust is None:
        return
    try:
        lists = read_lists(content)
        own.revocations = tuple(list_of(authority, lists) for authority in own.authorities)
        own.trust = TrustRoot(own.authorities, lists)
    except CertificateError as error:
        advice = "Copy crl.pem again from the directory of the CA that wrote ca.pem"
        yield broken("identity.revocations-unusable", path, error.cause, advice)
        return
    yield ok("identity.revocations", path, "signed by the CA")


def _whole(own: ExaminedIdentity, roles: frozenset[Role]) -> Iterator[Finding]:
    """Ask the code that the services ask, so that the doctor is never kinder or stricter than they are."""
    path = own.paths.certificate
    try:
        loaded = TlsIdentity.load(own.paths, at=own.at)
    except CertificateError as error:
        yield broken_by(error, "identity.certificate", path)
        return
    except ConfigError:
        # A file that cannot be read or that is open to all has its finding already.
        return
    if loaded.party.role not in roles:
        advice = f"Name the directory of a {' or '.join(sorted(roles))} certificate in `identity`"
        yield broken("identity.role", path, f"the certificate is for {loaded.party}", advice)
        return
    own.loaded = loaded
    yield ok("identity.certificate", path, f"{loaded.party}, of the CA of ca.pem, with its own key")


def _ends(own: ExaminedIdentity, soon: timedelta) -> Iterator[Finding]:
    name = "ROLE NAME" if own.party is None else f"{own.party.role} {own.party.name}"
    renewing = f"Have the CA make a new one (`secagg pki renew {name}`) and put it here before that day"
    if own.certificate is not None:
        end = own.certificate.not_valid_after_utc
        yield from _end("identity.certificate", own.paths.certificate, end, own.at, soon, renewing)
    for authority in own.authorities:
        advice = "Plan a new CA: every certificate of this one ends with it"
        yield from _end("identity.ca", own.paths.authority, authority.not_valid_after_utc, own.at, soon, advice)
    for one in own.revocations:
        advice = "Run `secagg pki renew-crl` where the CA is, and hand out the new crl.pem"
        yield from _end("identity.revocations", own.paths.revocations, one.until, own.at, soon, advice)


def _end(check: str, path: Path, end: datetime, at: datetime, soon: timedelta, advice: str) -> Iterator[Finding]:
    day, left = f"{end:%Y-%m-%d %H:%M} UTC", end - at
    if left < timedelta():
        yield broken(f"{check}-expired", path, f"it expired on {day}", advice.replace(" before that day", ""))
    elif left < soon:
        yield warning(f"{check}-ends-soon", path, f"it ends in {left.days} days, on {day}", advice)
    else:
        yield ok(f"{check}-end", path, f"it counts until {day}")
