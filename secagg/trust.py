"""The deployment's own CA as a client, holder or coordinator sees it.

The module reads no clock and no file: times and bytes come in as arguments.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from secagg.errors import CertificateError
from secagg.party import Party, Role, is_reserved, party_of
from secagg.revocations import RevocationList, list_of, read_lists

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

MAX_CERTIFICATE_BYTES: Final = 8 * 1024
_REMEMBERED: Final = 1024
"""Certificates that are not read again, nor their CA's signature verified. Only what a trusted CA issued is remembered, and of it
what depends on bytes alone: dates and revocation are looked at each time."""
_DAMAGED: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)

Extension = TypeVar("Extension", bound=x509.ExtensionType)


def extended_usages(role: Role) -> frozenset[ObjectIdentifier]:
    """Return the extended key usages that a certificate of this role has, no more, no fewer."""
    dials = ExtendedKeyUsageOID.CLIENT_AUTH
    return frozenset({dials, ExtendedKeyUsageOID.SERVER_AUTH} if role.serves else {dials})


def read_certificate(der: bytes) -> x509.Certificate:
    """Parse a DER certificate of at most 8 KiB.

    Raises:
        CertificateError: on any bytes that are not one certificate we can read in full.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise CertificateError(f"a certificate of {len(der)} bytes is larger than the {MAX_CERTIFICATE_BYTES} allowed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        tuple(certificate.extensions)
        certificate.public_key()
    except _DAMAGED:
        raise CertificateError("the certificate cannot be read") from None
    return certificate


@dataclass(frozen=True, kw_only=True)
class _Validity:
    """When a certificate counts."""

    first: datetime
    last: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> _Validity:
        return cls(first=certificate.not_valid_before_utc, last=certificate.not_valid_after_utc)

    def verify(self, whose: str, at: datetime) -> None:
        if at < self.first:
            advice = "Check this machine's clock"
            raise CertificateError(f"{whose} is not valid before {self.first:%Y-%m-%d %H:%M} UTC", next_step=advice)
        if at > self.last:
            raise CertificateError(f"{whose} expired on {self.last:%Y-%m-%d %H:%M} UTC")


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the bytes of a certificate say that a CA issued: whose it is, when it counts, and under which number it would be revoked."""

    party: Party
    key: ec.EllipticCurvePublicKey
    validity: _Validity
    serial_number: int


@dataclass(frozen=True, kw_only=True)
class _Issuer:
    certificate: x509.Certificate
    validity: _Validity
    revocations: RevocationList | None


class TrustRoot:
    """The CA certificates that count, and what they revoked.

    Raises:
        CertificateError: a CA certificate or revocation list that cannot be used, or, once
            a revocation list is given, a CA without one.
    """

    __slots__ = ("_issuers",)

    def __init__(
        self,
        authorities: tuple[x509.Certificate, ...],
        revocations: tuple[x509.CertificateRevocationList, ...] = (),
    ) -> None:
        if not authorities:
            raise CertificateError("there is no CA certificate to trust")
        self._issuers = tuple(
            _Issuer(
                certificate=_checked_authority(authority),
                validity=_Validity.of(authority),
                revocations=list_of(authority, revocations) if revocations else None,
            )
            for authority in authorities
        )

    @classmethod
    def from_pem(cls, ca_pem: bytes, crl_pem: bytes | None = None) -> TrustRoot:
        """Read one or more CA certificates and, when given, one revocation list for each."""
        try:
            authorities = tuple(x509.load_pem_x509_certificates(ca_pem))
        except _DAMAGED:
            raise CertificateError("the CA certificate cannot be read") from None
        return cls(authorities, () if crl_pem is None else read_lists(crl_pem))

    def verify_certificate(self, der: bytes, *, at: datetime) -> Party:
        """Return whom the certificate is for, once everything about it holds at that time.

        Args:
            der: the certificate, DER.
            at: the time that counts, with a time zone.

        Raises:
            CertificateError: it names the certificate and what is wrong: issuer, dates, key,
                usages, names or revocation. What was revoked later than `at` holds: a message that
                counted when it came goes on counting.
        """
        return self.verify_signer(der, at=at)[0]

    def verify_signer(self, der: bytes, *, at: datetime) -> tuple[Party, ec.EllipticCurvePublicKey]:
        """Return whom the certificate is for, and the P-256 key that it vouches for; errors as of `verify_certificate`."""
        known, issuer = self._vouched(der)
        issuer.validity.verify("the CA's certificate", at)
        known.validity.verify(f"the certificate of {known.party}", at)
        _check_not_revoked(known, issuer, at)
        return known.party, known.key

    def verify_successor(self, newer: TrustRoot) -> None:
        """Check that the other may take this one's place in a running process.

        Raises:
            CertificateError: it trusts other CAs, or its revocation list is older than this one's.
        """
        others = {one.certificate: one.revocations for one in newer._issuers}
        if others.keys() != {one.certificate for one in self._issuers}:
            advice = "Restart the process if it is to trust another CA"
            raise CertificateError("ca.pem does not hold the CA that this process trusts", next_step=advice)
        for one in self._issuers:
            other = others[one.certificate]
            if one.revocations is not None and other is None:
                raise CertificateError("the revocation list is gone", next_step="Put the CA's newest crl.pem back")
            if one.revocations is not None and other is not None:
                one.revocations.verify_successor(other)

    def without_revocations(self) -> TrustRoot:
        """Return the same CAs with no revocation list: for one's own store, whose messages were checked when they came."""
        return TrustRoot(tuple(one.certificate for one in self._issuers))

    def _vouched(self, der: bytes) -> tuple[_Known, _Issuer]:
        for issuer in self._issuers:
            with suppress(_NotIssuedError):
                return _vouched(der, issuer.certificate), issuer
        party = party_of(read_certificate(der))
        raise CertificateError(
            f"the certificate of {party} was not issued by the CA that is trusted here",
            next_step="Use a certificate of this deployment's own CA",
        )

    def __repr__(self) -> str:
        """Name the CAs."""
        names = ", ".join(one.certificate.subject.rfc4514_string() for one in self._issuers)
        return f"TrustRoot({names})"


class _NotIssuedError(Exception):
    """A certificate is not this CA's."""


@lru_cache(maxsize=_REMEMBERED)
def _vouched(der: bytes, authority: x509.Certificate) -> _Known:
    """Read a certificate that this CA issued. What raises is not remembered, so nobody else's certificates take up memory."""
    certificate = read_certificate(der)
    if not _is_issued_by(authority, certificate):
        raise _NotIssuedError
    party = party_of(certificate)
    key = _checked_key(certificate, f"the certificate of {party}")
    _check_profile(certificate, party)
    _check_names(certificate, party)
    return _Known(party=party, key=key, validity=_Validity.of(certificate), serial_number=certificate.serial_number)


def _is_issued_by(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        if isinstance(certificate.signature_hash_algorithm, SHA256):
            certificate.verify_directly_issued_by(authority)
            return True
    except (*_DAMAGED, InvalidSignature):
        pass
    return False


def _checked_authority(authority: x509.Certificate) -> x509.Certificate:
    _checked_key(authority, "the CA's certificate")
    basic = _extension(authority, x509.BasicConstraints)
    usage = _extension(authority, x509.KeyUsage)
    if basic is None or not basic.ca or usage is None or not usage.key_cert_sign:
        raise CertificateError(
            "the certificate to trust is not a CA's", next_step="Use the ca.pem that `secagg pki init` made"
        )
    return authority


def _checked_key(certificate: x509.Certificate, whose: str) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(f"{whose} has no P-256 key")
    return key


def _check_profile(certificate: x509.Certificate, party: Party) -> None:
    whose = f"the certificate of {party}"
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or basic.ca:
        raise CertificateError(f"{whose} is a CA's certificate, not a party's")
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign:
        raise CertificateError(f"{whose} has the wrong key usage: it must allow signatures and nothing of a CA's")
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    if extended is None or frozenset(extended) != extended_usages(party.role):
        raise CertificateError(f"{whose} has extended key usages that do not fit its role")
    if any(_is_unknown_and_critical(one) for one in certificate.extensions):
        raise CertificateError(f"{whose} holds a critical extension that is not known here")


def _is_unknown_and_critical(extension: x509.Extension[x509.ExtensionType]) -> bool:
    return extension.critical and isinstance(extension.value, x509.UnrecognizedExtension)


def _check_names(certificate: x509.Certificate, party: Party) -> None:
    names = _extension(certificate, x509.SubjectAlternativeName)
    hosts = [] if names is None else names.get_values_for_type(x509.DNSName)
    reserved = [host for host in hosts if is_reserved(host)]
    if reserved != ([party.server_name] if party.role.serves else []):
        raise CertificateError(f"the certificate of {party} holds DNS names of another party, or lacks its own")


def _check_not_revoked(known: _Known, issuer: _Issuer, at: datetime) -> None:
    listed = issuer.revocations
    if listed is None:
        return
    listed.verify_current(at)
    revoked_at = listed.dates.get(known.serial_number)
    if revoked_at is not None and at >= revoked_at:
        raise CertificateError(f"the certificate of {known.party} was revoked on {revoked_at:%Y-%m-%d %H:%M} UTC")


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


class FollowedTrust(TrustRoot):
    """A `TrustRoot` that is asked for anew at every check, so that whoever holds this follows it.

    Args:
        newest: returns the one that counts now.
    """

    __slots__ = ("_newest",)

    def __init__(self, newest: Callable[[], TrustRoot]) -> None:
        self._newest = newest

    def verify_signer(self, der: bytes, *, at: datetime) -> tuple[Party, ec.EllipticCurvePublicKey]:
        """Return whom the certificate is for, and its key, as `TrustRoot.verify_signer` of the newest."""
        return self._newest().verify_signer(der, at=at)

    def verify_successor(self, newer: TrustRoot) -> None:
        """Check that the other may take the newest one's place."""
        self._newest().verify_successor(newer)

    def without_revocations(self) -> TrustRoot:
        """Return the newest one's CAs with no revocation list; the result follows nothing."""
        return self._newest().without_revocations()

    def __repr__(self) -> str:
        """Name the CAs."""
        return repr(self._newest())
