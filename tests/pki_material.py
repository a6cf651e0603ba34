"""A deployment's certificates for tests, made by `secagg.pki`, and certificates that it would never make."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from secagg.certificates import Authority, make_authority, new_private_key
from secagg.party import Party, Role
from secagg.pki import Pki
from secagg.tls_identity import TlsIdentity

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
"""The time of tests that read no clock."""
DIAL = ExtendedKeyUsageOID.CLIENT_AUTH
SERVE = ExtendedKeyUsageOID.SERVER_AUTH

ALICE = Party(role=Role.CLIENT, name="alice")
COORDINATOR = Party(role=Role.COORDINATOR, name="main")
NORTH = Party(role=Role.KEY_HOLDER, name="north")
OPERATOR = Party(role=Role.OPERATOR, name="olga")
AUDITOR = Party(role=Role.AUDITOR, name="ada")


@dataclass(frozen=True)
class Deployment:
    """A CA in a directory and the identities it issued."""

    directory: Path
    at: datetime

    @property
    def pki(self) -> Pki:
        return Pki(directory=self.directory)

    def issue(self, party: Party, **options: object) -> Path:
        return self.pki.issue(party, at=self.at, **options)  # type: ignore[arg-type]

    def identity(self, party: Party) -> TlsIdentity:
        """Issue the party's certificate unless it has one, and load it."""
        directory = self.pki.path_of(party)
        return TlsIdentity.load(directory if directory.exists() else self.issue(party), at=self.at)


def deployment(directory: Path, *, at: datetime | None = None) -> Deployment:
    made = Deployment(directory=directory, at=at or datetime.now(UTC))
    made.pki.init(at=made.at)
    return made


def authority(at: datetime = NOW, days: int = 3650) -> Authority:
    return make_authority(common_name="secagg CA under test", at=at, days=days)


@dataclass(frozen=True, kw_only=True)
class Crafted:
    """A certificate with one thing wrong; the defaults are a client's as `secagg pki` makes it."""

    uris: tuple[str, ...] = (ALICE.uri,)
    hosts: tuple[str, ...] = ()
    usages: tuple[ObjectIdentifier, ...] | None = (DIAL,)
    is_ca: bool | None = False
    signs: bool = True
    signs_certificates: bool = False
    has_key_usage: bool = True
    not_before: datetime = NOW - timedelta(days=1)
    not_after: datetime = NOW + timedelta(days=1)
    hash_algorithm: HashAlgorithm = field(default_factory=SHA256)
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_private_key)
    critical_extension: bool = False

    def certificate(self, issuer: Authority) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crafted")]))
            .issuer_name(issuer.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
        )
        for extension, critical in self._extensions():
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(issuer.private_key, self.hash_algorithm)

    def der(self, issuer: Authority) -> bytes:
        return self.certificate(issuer).public_bytes(Encoding.DER)

    def _extensions(self) -> list[tuple[x509.ExtensionType, bool]]:
        extensions: list[tuple[x509.ExtensionType, bool]] = []
        names = [*map(x509.UniformResourceIdentifier, self.uris), *map(x509.DNSName, self.hosts)]
        if names:
            extensions.append((x509.SubjectAlternativeName(names), False))
        if self.usages is not None:
            extensions.append((x509.ExtendedKeyUsage(self.usages), False))
        if self.is_ca is not None:
            extensions.append((x509.BasicConstraints(ca=self.is_ca, path_length=None), True))
        if self.has_key_usage:
            extensions.append((_key_usage(signs=self.signs, certificates=self.signs_certificates), True))
        if self.critical_extension:
            extensions.append((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4.5"), b"\x05\x00"), True))
        return extensions


def _key_usage(*, signs: bool, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=not signs,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
