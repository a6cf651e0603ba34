"""What a CA has taken back, as its revocation lists say (RFC 5280, section 5).

The module reads no clock and no file: times and bytes come in as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from secagg.errors import CertificateError

MAX_LIST_BYTES: Final = 16 * 1024 * 1024
_PEM_END: Final = b"-----END X509 CRL-----"
_DAMAGED: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)


@dataclass(frozen=True, kw_only=True)
class RevocationList:
    """One CA's list, its signature checked.

    Attributes:
        number: grows from list to list; 0 for a list without one.
        made_at: when the CA made it.
        until: when it stops counting; the CA makes another one before.
        dates: from a certificate's serial number to when it was revoked.
    """

    number: int
    made_at: datetime
    until: datetime
    dates: Mapping[int, datetime] = field(repr=False)

    def verify_current(self, at: datetime) -> None:
        """Check that the list still counts; a list that is newer than `at` only knows more.

        Raises:
            CertificateError: it ran out.
        """
        if at > self.until:
            msg = f"the CA's revocation list is not valid after {self.until:%Y-%m-%d %H:%M} UTC"
            next_step = "Renew it with `secagg pki renew-crl` and hand out the new crl.pem"
            raise CertificateError(msg, next_step=next_step)

    def verify_successor(self, newer: RevocationList) -> None:
        """Check that the other list may take this one's place.

        Raises:
            CertificateError: it is older, and so may have forgotten what this one holds.
        """
        if (newer.number, newer.made_at) < (self.number, self.made_at):
            msg = f"revocation list number {newer.number} is older than number {self.number}, which is in force here"
            raise CertificateError(msg, next_step="Hand out the newest crl.pem of the CA")


def read_lists(pem: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    """Read one or more PEM lists, at most 16 MiB of them; their signatures are not checked here.

    Raises:
        CertificateError: on any bytes that are not revocation lists.
    """
    if len(pem) > MAX_LIST_BYTES:
        raise CertificateError(f"revocation lists of {len(pem)} bytes are larger than the {MAX_LIST_BYTES} allowed")
    try:
        lists = tuple(x509.load_pem_x509_crl(block + _PEM_END + b"\n") for block in pem.split(_PEM_END)[:-1])
    except _DAMAGED:
        raise CertificateError("the revocation list cannot be read") from None
    if not lists:
        raise CertificateError("the revocation list file holds no revocation list")
    return lists


def list_of(authority: x509.Certificate, lists: tuple[x509.CertificateRevocationList, ...]) -> RevocationList:
    """Return the newest of the lists that the CA signed.

    Raises:
        CertificateError: none is the CA's, or one is that does not hold everything it revoked.
    """
    try:
        own = [_checked(one) for one in lists if _signed_by(authority, one)]
    except _DAMAGED:
        raise CertificateError("the revocation list cannot be read") from None
    if not own:
        raise CertificateError(
            "no revocation list is signed by the CA that is trusted here",
            next_step="Use the crl.pem of the same CA as ca.pem",
        )
    return max(own, key=lambda one: (one.number, one.made_at))


def _signed_by(authority: x509.Certificate, one: x509.CertificateRevocationList) -> bool:
    key = authority.public_key()
    return (
        isinstance(key, ec.EllipticCurvePublicKey) and one.issuer == authority.subject and one.is_signature_valid(key)
    )


def _checked(one: x509.CertificateRevocationList) -> RevocationList:
    if any(extension.critical for extension in one.extensions):
        # A list of changes or of a part of the certificates says so in a critical extension.
        raise CertificateError("the revocation list holds a critical extension that is not known here")
    numbers = [
        extension.value.crl_number for extension in one.extensions if isinstance(extension.value, x509.CRLNumber)
    ]
    if one.next_update_utc is None:
        raise CertificateError("the revocation list does not say until when it counts")
    return RevocationList(
        number=numbers[0] if numbers else 0,
        made_at=one.last_update_utc,
        until=one.next_update_utc,
        dates={entry.serial_number: entry.revocation_date_utc for entry in one},
    )
