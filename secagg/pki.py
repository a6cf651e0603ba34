"""A deployment's CA in a directory: make it, issue, list and revoke certificates.

    DIRECTORY/ca.pem, ca.key.pem, crl.pem, index.json
    DIRECTORY/ROLE/NAME/cert.pem, key.pem, ca.pem, crl.pem

Only the four files of a party leave the directory, and they go to that party alone. The CA is
best run by someone who does not run the coordinator: who holds its key can invent clients.
"""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, PUBLIC_FILE_MODE, write_atomically
from secagg.certificates import Authority, make_authority, make_certificate, make_revocation_list, new_private_key
from secagg.errors import ConfigError, ConflictError, NotFoundError, StorageError
from secagg.party import Party
from secagg.pki_index import Index, IssuedCertificate, read_index, write_index

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 365
REVOCATION_LIST_DAYS: Final = 365
DEFAULT_HOSTS: Final = ("localhost", "127.0.0.1")
OTHERS_MAY_USE_BITS: Final = 0o077


@dataclass(frozen=True, kw_only=True)
class Pki:
    """A CA's directory and what unlocks its key.

    Attributes:
        directory: where everything stands.
        passphrase: what the CA's key is encrypted with; None leaves it to the file's mode, 0600.
    """

    directory: Path
    passphrase: bytes | None = None

    def __repr__(self) -> str:
        """Show the directory and never the passphrase."""
        return f"Pki({str(self.directory)!r})"

    def init(self, *, at: datetime, days: int = AUTHORITY_DAYS) -> Path:
        """Make the CA; return the path of its certificate.

        Args:
            at: now, with a time zone.
            days: how long the CA's certificate counts.

        Raises:
            ConflictError: there is a CA already; it is never replaced.
            StorageError: the files cannot be written.
        """
        _make_directory(self.directory)
        with self._locked():
            if self._authority_path.exists() or self._authority_key_path.exists():
                advice = "Use another directory; a new CA makes every certificate of the old one worthless"
                raise ConflictError(f"{self.directory} already holds a CA", next_step=advice)
            authority = make_authority(common_name=f"secagg CA {secrets.token_hex(8)}", at=at, days=days)
            write_index(self._index_path, Index())
            key_pem = _key_pem(authority.private_key, self.passphrase)
            write_atomically(self._authority_key_path, key_pem, mode=PRIVATE_FILE_MODE)
            self._publish_revocations(authority, Index(), at, REVOCATION_LIST_DAYS)
            write_atomically(self._authority_path, _pem(authority.certificate), mode=PUBLIC_FILE_MODE)
        return self._authority_path

    def issue(
        self,
        party: Party,
        *,
        at: datetime,
        days: int = CERTIFICATE_DAYS,
        hosts: Sequence[str] = (),
        force: bool = False,
    ) -> Path:
        """Make a key and a certificate for a party; return the directory to hand to it.

        Args:
            party: whom it is for.
            at: now, with a time zone.
            days: how long the certificate counts.
            hosts: further DNS names and addresses of a server, beside localhost and 127.0.0.1.
            force: replace the party's certificate; the one before is revoked.

        Raises:
            ConflictError: the party has a certificate and `force` is not set.
            ConfigError: there is no CA here, or its key does not open.
            StorageError: the files cannot be written.
        """
        with self._locked():
            authority, index = self._opened()
            if not force and (index.live(party) or self.path_of(party).exists()):
                raise ConflictError(f"{party} has a certificate already", next_step="--force revokes and replaces it")
            key = new_private_key()
            served = tuple(dict.fromkeys((*DEFAULT_HOSTS, *hosts))) if party.role.serves else tuple(hosts)
            certificate = make_certificate(authority, party, key.public_key(), at=at, days=days, hosts=served)
            index = index.with_revoked(party, at).with_certificate(_issued(certificate, party))
            self._publish_revocations(authority, index, at, REVOCATION_LIST_DAYS)
            self._write_party(party, authority, certificate, key)
        return self.path_of(party)

    def issued(self) -> tuple[IssuedCertificate, ...]:
        """Return every certificate that was ever issued, oldest first."""
        if not self._index_path.exists():
            raise _no_authority(self.directory)
        return read_index(self._index_path).certificates

    def revoke(self, party: Party, *, at: datetime) -> int:
        """Revoke every certificate of the party, return how many, and renew the revocation list.

        Raises:
            NotFoundError: the party has no certificate that is not revoked already.
        """
        with self._locked():
            authority, index = self._opened()
            live = index.live(party)
            if not live:
                raise NotFoundError(f"{party} has no certificate to revoke", next_step="`secagg pki show` lists them")
            self._publish_revocations(authority, index.with_revoked(party, at), at, REVOCATION_LIST_DAYS)
        return len(live)

    def renew_revocation_list(self, *, at: datetime, days: int = REVOCATION_LIST_DAYS) -> Path:
        """Sign the revocation list anew, so that it counts for `days` more; return its path."""
        with self._locked():
            authority, index = self._opened()
            self._publish_revocations(authority, index, at, days)
        return self._revocations_path

    def path_of(self, party: Party) -> Path:
        """Return the party's own directory."""
        return self.directory / party.role / party.name

    @property
    def _authority_path(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def _authority_key_path(self) -> Path:
        return self.directory / "ca.key.pem"

    @property
    def _revocations_path(self) -> Path:
        return self.directory / "crl.pem"

    @property
    def _index_path(self) -> Path:
        return self.directory / "index.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.directory.is_dir():
            raise _no_authority(self.directory)
        try:
            lock = (self.directory / ".lock").open("wb")
        except OSError as error:
            raise StorageError(f"{self.directory} cannot be written: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _opened(self) -> tuple[Authority, Index]:
        if not self._authority_path.exists():
            raise _no_authority(self.directory)
        _check_mode(self._authority_key_path)
        try:
            certificate = x509.load_pem_x509_certificate(self._authority_path.read_bytes())
            key = load_pem_private_key(self._authority_key_path.read_bytes(), self.passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            advice = "Give the passphrase the CA was made with, by --passphrase-file; none if it was made without"
            raise ConfigError(f"the CA's key in {self.directory} does not open", next_step=advice) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(f"the CA's key in {self.directory} does not belong to its certificate")
        return Authority(certificate=certificate, private_key=key), read_index(self._index_path)

    def _publish_revocations(self, authority: Authority, index: Index, at: datetime, days: int) -> None:
        """Store the index before the list that follows from it, then every party's copy."""
        index = index.with_next_list()
        write_index(self._index_path, index)
        number = index.revocation_list_number
        revoked = make_revocation_list(authority, index.revocations(), number=number, at=at, days=days)
        pem = revoked.public_bytes(Encoding.PEM)
        write_atomically(self._revocations_path, pem, mode=PUBLIC_FILE_MODE)
        for party in {one.party for one in index.certificates}:
            if self.path_of(party).is_dir():
                write_atomically(self.path_of(party) / "crl.pem", pem, mode=PUBLIC_FILE_MODE)

    def _write_party(
        self, party: Party, authority: Authority, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        directory = self.path_of(party)
        _make_directory(directory)
        revocations = self._revocations_path.read_bytes()
        write_atomically(directory / "key.pem", _key_pem(key, None), mode=PRIVATE_FILE_MODE)
        write_atomically(directory / "cert.pem", _pem(certificate), mode=PUBLIC_FILE_MODE)
        write_atomically(directory / "ca.pem", _pem(authority.certificate), mode=PUBLIC_FILE_MODE)
        write_atomically(directory / "crl.pem", revocations, mode=PUBLIC_FILE_MODE)


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}") from error


def _check_mode(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if mode & OTHERS_MAY_USE_BITS:
        raise ConfigError(f"others on this machine may read {path}", next_step=f"Run `chmod 600 {path}`")


def _no_authority(directory: Path) -> ConfigError:
    return ConfigError(f"{directory} holds no CA", next_step="Make one with `secagg pki init`, or name its directory")


def _issued(certificate: x509.Certificate, party: Party) -> IssuedCertificate:
    return IssuedCertificate(
        serial=certificate.serial_number,
        party=party,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
