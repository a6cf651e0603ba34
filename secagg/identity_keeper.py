"""Certificates and revocation lists that are replaced under a running process.

One thread reads the four files once a second, which is a few kilobytes from the system's cache: their content decides,
not their dates. What is half written, does not fit, or may not replace what is in force changes nothing and is logged once.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from secagg.errors import CertificateError, SecAggError
from secagg.party import Role
from secagg.signing import FollowedSigner
from secagg.tls_identity import TlsIdentity, TlsPaths, read_pair, read_trust
from secagg.trust import FollowedTrust

POLL_SECONDS: Final = 1.0
"""How long a new certificate or revocation list may lie in its file unnoticed."""

# Not structlog: this runs inside training jobs too, where an unconfigured structlog would print to standard output.
_log: Final = logging.getLogger("secagg.identity")


def followed(source: Path | TlsPaths, *, at: datetime, expect_role: Role | None = None) -> TlsIdentity:
    """Read an identity as `TlsIdentity.load` does, and follow its files for as long as anybody holds it or its parts.

    Its `signer` and `trust` always use what the files hold now; `current` is the immutable identity that counts now.

    Raises:
        ConfigError: as `TlsIdentity.load`.
        CertificateError: as there.
    """
    keeper = IdentityKeeper(TlsIdentity.load(source, at=at, expect_role=expect_role))
    ended = threading.Event()
    weakref.finalize(keeper, ended.set)
    watching = threading.Thread(target=_watch, args=(weakref.ref(keeper), ended), name="identity", daemon=True)
    watching.start()
    return keeper.identity


class IdentityKeeper:
    """The newest identity of one party: the same role and name, of the same CA, and never an older revocation list.

    Args:
        loaded: what is in force until `refresh` finds something newer.
        now: the clock.
    """

    def __init__(self, loaded: TlsIdentity, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._current = loaded
        self._now = now
        self._said: dict[str, str] = {}

    @property
    def current(self) -> TlsIdentity:
        """The identity in force; immutable."""
        return self._current

    @property
    def identity(self) -> TlsIdentity:
        """The same, with a signer and a trust that follow what is in force."""
        return replace(
            self._current,
            signer=FollowedSigner(lambda: self._current.signer),
            trust=FollowedTrust(lambda: self._current.trust),
            newest=lambda: self._current,
        )

    def refresh(self) -> None:
        """Take what is new in the files and may be taken. It reads files: never call it in an event loop."""
        with self._warned("revocation list"):
            self._take_trust()
        with self._warned("certificate"):
            self._take_pair()
        with self._warned("own certificate"):
            self._current.trust.verify_certificate(self._current.signer.certificate, at=self._now())

    def _take_trust(self) -> None:
        before = self._current
        authority_pem, revocations_pem, trust = read_trust(before.paths)
        if (authority_pem, revocations_pem) == (before.authority_pem, before.revocations_pem):
            return
        before.trust.verify_successor(trust)
        self._current = replace(before, authority_pem=authority_pem, revocations_pem=revocations_pem, trust=trust)
        _log.info("revocation list taken", extra={"party": str(before.party)})

    def _take_pair(self) -> None:
        before = self._current
        certificate_pem, private_key_pem, signer = read_pair(before.paths)
        if (certificate_pem, private_key_pem) == (before.certificate_pem, before.private_key_pem):
            return
        party = before.trust.verify_certificate(signer.certificate, at=self._now())
        if party != before.party:
            advice = f"Put a certificate of {before.party} there, or restart the process"
            raise CertificateError(f"{before.paths.certificate} is for {party}", next_step=advice)
        self._current = replace(before, certificate_pem=certificate_pem, private_key_pem=private_key_pem, signer=signer)
        _log.info("certificate taken", extra={"party": str(party)})

    @contextmanager
    def _warned(self, part: str) -> Iterator[None]:
        """Say once what is wrong with a part, and once more when it is something else."""
        try:
            yield
        except SecAggError as error:
            if self._said.get(part) != str(error):
                self._said[part] = str(error)
                _log.warning("%s not usable: %s", part, error, extra={"party": str(self._current.party)})
        else:
            self._said.pop(part, None)


def _watch(kept: weakref.ref[IdentityKeeper], ended: threading.Event) -> None:
    while not ended.wait(POLL_SECONDS):
        keeper = kept()
        if keeper is None:
            return
        try:
            keeper.refresh()
        except Exception:  # noqa: BLE001 - a defect here must not end the watch: no revocation would be noticed again
            _log.exception("identity files could not be checked")
        del keeper
