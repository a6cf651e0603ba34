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
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, PUBLIC_FILE_MODE, write_atomically
from secagg.authority_files import certificate_pem, key_pem, read_authority
from secagg.certificates import (
    Authority,
    RevocationReason,
    hosts_of,
    make_authority,
    make_certificate,
    make_revocation_list,
    new_private_key,
)
from secagg.errors import ConfigError, ConflictError, NotFoundError, StorageError
from secagg.party import Party
from secagg.pki_index import Index, IssuedCertificate, read_index, write_index

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 365
REVOCATION_LIST_DAYS: Final = 365
DEFAULT_HOSTS: Final = ("localhost", "127.0.0.1")


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
            sealed = key_pem(authority.private_key, self.passphrase)
            write_atomically(self._authority_key_path, sealed, mode=PRIVATE_FILE_MODE)
            self._publish_revocations(authority, Index(), at, REVOCATION_LIST_DAYS)
            write_atomically(self._authority_path, certificate_pem(authority.certificate), mode=PUBLIC_FILE_MODE)
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
            index = index.with_revoked(index.live(party), at, RevocationReason.SUPERSEDED)
            self._certify(party, authority, index, at=at, days=days, hosts=hosts)
        return self.path_of(party)

    def renew(self, party: Party, *, at: datetime, days: int = CERTIFICATE_DAYS, hosts: Sequence[str] = ()) -> Path:
        """Make a new key and certificate for a party that has one, which counts on until its end; return the directory.

        A process that runs on the directory takes both within seconds, so nothing has to stop.

        Args:
            party: whom it is for.
            at: now, with a time zone.
            days: how long the certificate counts.
            hosts: further DNS names and addresses of a server; those of the certificate in the directory when left out.

        Raises:
            NotFoundError: the party has no certificate that is not revoked.
            ConfigError: there is no CA here, or its key does not open.
            StorageError: the files cannot be written.
        """
        with self._locked():
            authority, index = self._opened()
            if not index.live(party):
                raise NotFoundError(
                    f"{party} has no certificate to renew", next_step="`secagg pki issue --force` makes one"
                )
            self._certify(party, authority, index, at=at, days=days, hosts=hosts or self._hosts_of(party))
        return self.path_of(party)

    def issued(self) -> tuple[IssuedCertificate, ...]:
        """Return every certificate that was ever issued, oldest first."""
        if not self._index_path.exists():
            raise _no_authority(self.directory)
        return read_index(self._index_path).certificates

    def revoke(
        self,
        party: Party,
        *,
        at: datetime,
        serial: int | None = None,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
    ) -> int:
        """Revoke the party's certificates, return how many, and renew the revocation list.

        Args:
            party: whose certificates.
            at: now, with a time zone; what was signed and taken before stays good.
            serial: only the certificate with this serial number; all of them when left out.
            reason: goes into the revocation list.

        Raises:
            NotFoundError: there is no such certificate that is not revoked already.
        """
        with self._locked():
            authority, index = self._opened()
            live = tuple(one for one in index.live(party) if serial in (None, one.serial))
            if not live:
                which = "no certificate" if serial is None else f"no certificate {serial:x}"
                raise NotFoundError(f"{party} has {which} to revoke", next_step="`secagg pki show` lists them")
            self._publish_revocations(authority, index.with_revoked(live, at, reason), at, REVOCATION_LIST_DAYS)
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
        authority = read_authority(self._authority_path, self._authority_key_path, self.passphrase)
        return authority, read_index(self._index_path)

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

    def _certify(
        self, party: Party, authority: Authority, index: Index, *, at: datetime, days: int, hosts: Sequence[str]
    ) -> None:
        key = new_private_key()
        served = tuple(dict.fromkeys((*DEFAULT_HOSTS, *hosts))) if party.role.serves else tuple(hosts)
        certificate = make_certificate(authority, party, key.public_key(), at=at, days=days, hosts=served)
        self._publish_revocations(
            authority, index.with_certificate(_issued(certificate, party)), at, REVOCATION_LIST_DAYS
        )
        self._write_party(party, authority, certificate, key)

    def _hosts_of(self, party: Party) -> tuple[str, ...]:
        path = self.path_of(party) / "cert.pem"
        try:
            return hosts_of(x509.load_pem_x509_certificate(path.read_bytes()))
        except (OSError, ValueError):
            advice = "Name every host with --host"
            raise ConfigError(
                f"{path} cannot be read, so the hosts of {party} are not known", next_step=advice
            ) from None

    def _write_party(
        self, party: Party, authority: Authority, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        """Write each file in one step. Between key and certificate they do not fit: who reads them then keeps what it has."""
        directory = self.path_of(party)
        _make_directory(directory)
        revocations = self._revocations_path.read_bytes()
        write_atomically(directory / "key.pem", key_pem(key, None), mode=PRIVATE_FILE_MODE)
        write_atomically(directory / "cert.pem", certificate_pem(certificate), mode=PUBLIC_FILE_MODE)
        write_atomically(directory / "ca.pem", certificate_pem(authority.certificate), mode=PUBLIC_FILE_MODE)
        write_atomically(directory / "crl.pem", revocations, mode=PUBLIC_FILE_MODE)


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be made: {error.strerror}") from error


def _no_authority(directory: Path) -> ConfigError:
    return ConfigError(f"{directory} holds no CA", next_step="Make one with `secagg pki init`, or name its directory")


def _issued(certificate: x509.Certificate, party: Party) -> IssuedCertificate:
    return IssuedCertificate(
        serial=certificate.serial_number,
        party=party,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )
