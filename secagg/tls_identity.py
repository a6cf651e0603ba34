"""A process's own certificate, checked before it dials or serves.

A bad certificate shows only as `UNAVAILABLE` once gRPC has it, so it is refused here, by name.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from secagg.errors import CertificateError, ConfigError
from secagg.party import Party, Role
from secagg.signing import Signer
from secagg.trust import TrustRoot

ANYONE_BITS: Final = 0o007


@dataclass(frozen=True, kw_only=True)
class TlsPaths:
    """The four files of a party, as `secagg pki issue` writes them."""

    certificate: Path
    private_key: Path
    authority: Path
    revocations: Path

    @classmethod
    def of(cls, directory: Path) -> TlsPaths:
        """Return the files' usual names in a party's directory."""
        return cls(
            certificate=directory / "cert.pem",
            private_key=directory / "key.pem",
            authority=directory / "ca.pem",
            revocations=directory / "crl.pem",
        )


@dataclass(frozen=True, kw_only=True)
class TlsIdentity:
    """Who this process is, whom it trusts, and what it shows when it dials or serves.

    Attributes:
        party: whom the certificate names.
        signer: signs protocol messages with the same key.
        trust: the CA and its revocations.
        paths: the files it came from.
        certificate_pem: the certificate.
        private_key_pem: its key; no `repr` shows it.
        authority_pem: the CA's certificate.
        revocations_pem: what the CA revoked.
        newest: returns the party's newest identity while an `IdentityKeeper` follows the files; None for one that stays.
    """

    party: Party
    signer: Signer
    trust: TrustRoot
    paths: TlsPaths
    certificate_pem: bytes
    private_key_pem: bytes
    authority_pem: bytes
    revocations_pem: bytes
    newest: Callable[[], TlsIdentity] | None = field(default=None, repr=False, compare=False)

    @property
    def current(self) -> TlsIdentity:
        """What to show from now on: this, or what has replaced it in the files."""
        return self if self.newest is None else self.newest()

    def __repr__(self) -> str:
        """Name the party and nothing of its key."""
        return f"TlsIdentity({self.party})"

    @classmethod
    def load(cls, source: Path | TlsPaths, *, at: datetime, expect_role: Role | None = None) -> TlsIdentity:
        """Read and check the four files.

        Args:
            source: a party's directory, or the four paths.
            at: now, with a time zone.
            expect_role: the role that this process plays; any when left out.

        Raises:
            ConfigError: a file is missing, unreadable, or a key that anyone may read.
            CertificateError: the certificate is not of the trusted CA, does not count now, was
                revoked, is for another role, or does not belong to the key.
        """
        paths = source if isinstance(source, TlsPaths) else TlsPaths.of(source)
        certificate_pem, private_key_pem, signer = read_pair(paths)
        authority_pem, revocations_pem, trust = read_trust(paths)
        party = trust.verify_certificate(signer.certificate, at=at)
        if expect_role not in (None, party.role):
            advice = f"Name the directory of a {expect_role} certificate"
            raise CertificateError(f"{paths.certificate} is for {party}, not for a {expect_role}", next_step=advice)
        return cls(
            party=party,
            signer=signer,
            trust=trust,
            paths=paths,
            certificate_pem=certificate_pem,
            private_key_pem=private_key_pem,
            authority_pem=authority_pem,
            revocations_pem=revocations_pem,
        )

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS 1.3 context for a server that asks every caller for a certificate.

        Raises:
            ConfigError: the files no longer hold this identity; `ssl` reads a key from nowhere else.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would skip the handshake in which the certificate is checked.
        context.num_tickets = 0
        try:
            context.load_cert_chain(self.paths.certificate, self.paths.private_key)
        except OSError:
            raise self._changed() from None
        if _read(self.paths.certificate) != self.certificate_pem:
            raise self._changed()
        context.load_verify_locations(cadata=self.authority_pem.decode("ascii"))
        return context

    def _changed(self) -> ConfigError:
        advice = "Put certificate and key of one directory there"
        return ConfigError(f"{self.paths.certificate} or its key is not what was read before", next_step=advice)


def read_pair(paths: TlsPaths) -> tuple[bytes, bytes, Signer]:
    """Return certificate and key as they stand in the files, and the signer they make.

    Raises:
        ConfigError: a file is missing, unreadable, or a key that anyone may read.
        CertificateError: one cannot be used, or they do not belong together.
    """
    _refuse_open_key(paths.private_key)
    certificate_pem, private_key_pem = _read(paths.certificate), _read(paths.private_key)
    return certificate_pem, private_key_pem, _signer(certificate_pem, private_key_pem, paths)


def read_trust(paths: TlsPaths) -> tuple[bytes, bytes, TrustRoot]:
    """Return the CA and its revocation list as they stand in the files, and the trust they make.

    Raises:
        ConfigError: a file is missing or unreadable.
        CertificateError: one cannot be used, or they do not belong together.
    """
    authority_pem, revocations_pem = _read(paths.authority), _read(paths.revocations)
    return authority_pem, revocations_pem, TrustRoot.from_pem(authority_pem, revocations_pem)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        advice = "Name a directory that `secagg pki issue` wrote, with cert.pem, key.pem, ca.pem and crl.pem"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", next_step=advice) from error


def _refuse_open_key(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # Reading it says what is wrong.
    if mode & ANYONE_BITS:
        raise ConfigError(f"anyone on this machine may read {path}", next_step=f"Run `chmod 600 {path}`")


def _signer(certificate_pem: bytes, private_key_pem: bytes, paths: TlsPaths) -> Signer:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem).public_bytes(Encoding.DER)
    except ValueError:
        raise CertificateError(f"{paths.certificate} holds no certificate that can be read") from None
    try:
        key = load_pem_private_key(private_key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(f"{paths.private_key} holds no private key that can be read") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{paths.private_key} holds no P-256 key")
    return Signer(private_key=key, certificate=certificate)
