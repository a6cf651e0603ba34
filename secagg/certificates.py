"""Making certificates and revocation lists: the other side of `secagg.trust`.

Pure: keys, times and serial numbers' randomness come from `cryptography`, nothing is stored.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from secagg.errors import UsageError
from secagg.party import DNS_SUFFIX, Party, is_reserved
from secagg.trust import extended_usages

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far before its making a certificate begins to count, for clocks that are behind."""


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA with its private key, which no `repr` shows.

    Attributes:
        certificate: the CA's own certificate.
        private_key: P-256.
    """

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        """Name the CA and nothing of its key."""
        return f"Authority({self.certificate.subject.rfc4514_string()})"


class RevocationReason(StrEnum):
    """Why a certificate was revoked (RFC 5280, section 5.3.1); it changes nothing of what follows from it."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"
    PRIVILEGE_WITHDRAWN = "privilege-withdrawn"

    @property
    def flag(self) -> x509.ReasonFlags:
        """The reason as a revocation list has it."""
        return x509.ReasonFlags[self.name.lower()]


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """One revoked certificate: its serial number, when it was revoked, and why."""

    serial: int
    at: datetime
    reason: RevocationReason = RevocationReason.UNSPECIFIED


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(*, common_name: str, at: datetime, days: int) -> Authority:
    """Return a new CA that signs parties' certificates and revocation lists, and nothing else."""
    key = new_private_key()
    name = _common_name(common_name)
    certificate = (
        _dated(x509.CertificateBuilder(), at, at + timedelta(days=days))
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(of_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return Authority(certificate=certificate, private_key=key)


def make_certificate(
    authority: Authority,
    party: Party,
    public_key: ec.EllipticCurvePublicKey,
    *,
    at: datetime,
    days: int,
    hosts: Sequence[str] = (),
) -> x509.Certificate:
    """Return a certificate for the party's key.

    Args:
        authority: the CA that signs it.
        party: role and name, which go into the URI SAN; servers also get their DNS SAN.
        public_key: the party's P-256 key.
        at: when it is made; it counts from five minutes earlier.
        days: how many days it counts; it must not outlive the CA.
        hosts: further DNS names or IP addresses of a server.

    Raises:
        UsageError: it would outlive the CA, or a host name is reserved or for no server.
    """
    until = at + timedelta(days=days)
    if until > authority.certificate.not_valid_after_utc:
        limit = f"{authority.certificate.not_valid_after_utc:%Y-%m-%d}"
        raise UsageError(f"the certificate would outlive its CA, which ends on {limit}", next_step="Ask for fewer days")
    builder = (
        _dated(x509.CertificateBuilder(), at, until)
        .subject_name(_common_name(party.name))
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(of_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(sorted(extended_usages(party.role), key=str)), critical=False)
        .add_extension(_alternative_names(party, hosts), critical=False)
        .add_extension(_authority_key_identifier(authority), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    return builder.sign(authority.private_key, SHA256())


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and addresses that it was made with, the party's own server name left out.

    Raises:
        ValueError: its names cannot be read.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    dns = (host for host in names.get_values_for_type(x509.DNSName) if not is_reserved(host))
    return (*dns, *map(str, names.get_values_for_type(x509.IPAddress)))


def make_revocation_list(
    authority: Authority, revocations: Iterable[Revocation], *, number: int, at: datetime, days: int
) -> x509.CertificateRevocationList:
    """Return the CA's revocation list; `number` must grow from list to list."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(at - CLOCK_SKEW)
        .next_update(at + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key_identifier(authority), critical=False)
    )
    for one in revocations:
        builder = builder.add_revoked_certificate(_entry(one))
    return builder.sign(authority.private_key, SHA256())


def _entry(revocation: Revocation) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder().serial_number(revocation.serial).revocation_date(revocation.at)
    if revocation.reason is not RevocationReason.UNSPECIFIED:
        # The standard wants "unspecified" left out.
        entry = entry.add_extension(x509.CRLReason(revocation.reason.flag), critical=False)
    return entry.build()


def _dated(builder: x509.CertificateBuilder, at: datetime, until: datetime) -> x509.CertificateBuilder:
    return builder.not_valid_before(at - CLOCK_SKEW).not_valid_after(until)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _authority_key_identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.private_key.public_key())


def _key_usage(*, of_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not of_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=of_authority,
        crl_sign=of_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(party: Party, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(party.uri)]
    if party.role.serves:
        names.append(x509.DNSName(party.server_name))
    elif hosts:
        raise UsageError(
            f"{party} serves nothing, so its certificate holds no host names", next_step="Leave out --host"
        )
    names.extend(_host_name(host) for host in hosts)
    return x509.SubjectAlternativeName(names)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if is_reserved(host):
        raise UsageError(
            f"host names that end in {DNS_SUFFIX} are reserved", next_step="Use the server's own host name"
        )
    try:
        return x509.DNSName(host)
    except ValueError:
        raise UsageError(f"{host!r} is neither a DNS name nor an IP address") from None
