"""The list of every certificate a CA issued, so that any of them can be revoked later."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from secagg.atomic_files import PRIVATE_FILE_MODE, write_atomically
from secagg.certificates import Revocation, RevocationReason
from secagg.errors import CertificateError, StorageError, UsageError
from secagg.party import Party, parse_uri

_ADVICE: Final = "Restore the PKI directory from a backup"


@dataclass(frozen=True, kw_only=True)
class IssuedCertificate:
    """One line of the index.

    Attributes:
        serial: the certificate's serial number.
        party: whom it is for.
        not_before: when it begins to count.
        not_after: when it stops.
        revoked_at: when it was revoked, if it was.
        reason: why it was revoked.
    """

    serial: int
    party: Party
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None
    reason: RevocationReason = RevocationReason.UNSPECIFIED

    def state(self, at: datetime) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if at > self.not_after else "valid"

    def as_json(self) -> dict[str, str | None]:
        """Return text only: the serial in hexadecimal, times in ISO 8601."""
        return {
            "serial": f"{self.serial:x}",
            "party": self.party.uri,
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "revoked_at": self.revoked_at.isoformat() if self.revoked_at else None,
            "reason": str(self.reason) if self.revoked_at else None,
        }


@dataclass(frozen=True, kw_only=True)
class Index:
    """Everything the CA issued, and the number of its newest revocation list."""

    revocation_list_number: int = 0
    certificates: tuple[IssuedCertificate, ...] = ()

    def live(self, party: Party) -> tuple[IssuedCertificate, ...]:
        """Return the party's certificates that were not revoked, expired ones included."""
        return tuple(one for one in self.certificates if one.party == party and one.revoked_at is None)

    def with_certificate(self, issued: IssuedCertificate) -> Index:
        """Return the index with one more certificate."""
        return replace(self, certificates=(*self.certificates, issued))

    def with_revoked(self, those: tuple[IssuedCertificate, ...], at: datetime, reason: RevocationReason) -> Index:
        """Return the index with those certificates revoked."""
        certificates = tuple(
            replace(one, revoked_at=at, reason=reason) if one in those else one for one in self.certificates
        )
        return replace(self, certificates=certificates)

    def with_next_list(self) -> Index:
        """Return the index with the number of the next revocation list."""
        return replace(self, revocation_list_number=self.revocation_list_number + 1)

    def revocations(self) -> tuple[Revocation, ...]:
        """Return what belongs on the revocation list."""
        return tuple(
            Revocation(serial=one.serial, at=one.revoked_at, reason=one.reason)
            for one in self.certificates
            if one.revoked_at is not None
        )


def read_index(path: Path) -> Index:
    """Read the index; raise `StorageError` when it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
        return Index(
            revocation_list_number=int(content["revocation_list_number"]),
            certificates=tuple(_certificate_from(one) for one in content["certificates"]),
        )
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", next_step=_ADVICE) from error
    except (ValueError, KeyError, TypeError, RecursionError, CertificateError, UsageError):
        raise StorageError(f"{path} is damaged", next_step=_ADVICE) from None


def write_index(path: Path, index: Index) -> None:
    """Replace the index in one step."""
    content = {
        "revocation_list_number": index.revocation_list_number,
        "certificates": [one.as_json() for one in index.certificates],
    }
    write_atomically(path, json.dumps(content, indent=1).encode(), mode=PRIVATE_FILE_MODE)


def _certificate_from(entry: dict[str, str | None]) -> IssuedCertificate:
    revoked_at = entry["revoked_at"]
    # An index of an older version has no reasons.
    reason = entry.get("reason") or RevocationReason.UNSPECIFIED
    return IssuedCertificate(
        serial=int(str(entry["serial"]), 16),
        party=parse_uri(str(entry["party"])),
        not_before=datetime.fromisoformat(str(entry["not_before"])),
        not_after=datetime.fromisoformat(str(entry["not_after"])),
        revoked_at=None if revoked_at is None else datetime.fromisoformat(revoked_at),
        reason=RevocationReason(reason),
    )
