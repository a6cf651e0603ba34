"""Dialling an address and seeing who answers, in the words that gRPC does not give: it says `UNAVAILABLE` of everything.

The certificate is taken in a handshake that checks nothing and is judged here; nothing else is sent or believed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from secagg.doctor.identity import ExaminedIdentity, is_issued_by
from secagg.errors import CertificateError
from secagg.party import Party, party_of
from secagg.trust import read_certificate

GRPC_PROTOCOLS: Final = ("h2",)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why an address cannot be used. `kind` is for scripts: `refused`, `silent`, `stranger`, `expired` and so on."""

    kind: str
    says: str
    advice: str


class DialError(Exception):
    """Carries a `Refusal` through the steps of a dial; it does not leave this package."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.says)
        self.refusal = refusal


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`, without the brackets of IPv6."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def shown_certificate(
    address: str, own: ExaminedIdentity, *, timeout_seconds: float, protocols: tuple[str, ...] = GRPC_PROTOCOLS
) -> bytes:
    """Return the certificate, DER, that whoever listens at the address shows.

    Raises:
        DialError: nobody listens, nothing answers in time, or it does not speak TLS.
    """
    with connected(address, timeout_seconds) as raw, _tls_failures(timeout_seconds):
        context = unchecked_context(own, protocols)
        with context.wrap_socket(raw, server_hostname=split_address(address)[0]) as secure:
            return secure.getpeercert(binary_form=True) or b""


def unchecked_context(own: ExaminedIdentity, protocols: tuple[str, ...]) -> ssl.SSLContext:
    """Return a context that takes any certificate: to look at it, never to send anything that counts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if own.loaded is not None:
        # Without a certificate of ours a server would log a failed handshake.
        context.load_cert_chain(own.paths.certificate, own.paths.private_key)
    return context


def judge(der: bytes, own: ExaminedIdentity, target: Party) -> Refusal | None:
    """Say what is wrong with a certificate that a peer showed; None when it is the target's and counts now."""
    try:
        certificate = read_certificate(der)
        party = party_of(certificate)
    except CertificateError as error:
        return _stranger(f"it shows a certificate that is no party's: {error.cause}")
    if not is_issued_by(certificate, own.authorities):
        return _stranger(f"it shows a certificate for {party} of another CA than that of {own.paths.authority}")
    if own.at > certificate.not_valid_after_utc:
        day = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        advice = f"Its operator needs a new one (`secagg pki renew {party.role} {party.name}`)"
        return Refusal(kind="expired", says=f"its certificate expired on {day}", advice=advice)
    if party != target:
        advice = f"Correct the name or the address in the configuration: the name must be that in {party}'s certificate"
        return Refusal(kind="wrong-name", says=f"{party} answers there, and not {target}", advice=advice)
    return _judged_by_trust(der, own)


def _judged_by_trust(der: bytes, own: ExaminedIdentity) -> Refusal | None:
    if own.trust is None:
        return Refusal(kind="unjudged", says="there is no CA to judge it by", advice="See to ca.pem and crl.pem first")
    try:
        own.trust.verify_certificate(der, at=own.at)
    except CertificateError as error:
        kind = "revoked" if "revoked" in error.cause else "certificate"
        return Refusal(kind=kind, says=error.cause, advice=error.next_step)
    return None


def _stranger(says: str) -> Refusal:
    advice = "Check the address; if it is right, one of the two sides uses the wrong ca.pem"
    return Refusal(kind="stranger", says=says, advice=advice)


@contextlib.contextmanager
def connected(address: str, timeout_seconds: float) -> Iterator[socket.socket]:
    """Open a TCP connection; raise `DialError` when there is none to be had."""
    try:
        raw = socket.create_connection(split_address(address), timeout=timeout_seconds)
    except OSError as error:
        raise DialError(_unconnected(error, timeout_seconds)) from None
    with raw:
        yield raw


def _unconnected(error: OSError, timeout_seconds: float) -> Refusal:
    if isinstance(error, socket.gaierror):
        advice = "Correct the host name, or have the name server know it"
        return Refusal(kind="unknown-host", says="its host name leads nowhere", advice=advice)
    if isinstance(error, ConnectionRefusedError):
        advice = "Start the service there, or correct the port"
        return Refusal(kind="refused", says="the machine is up and nothing listens there", advice=advice)
    if isinstance(error, TimeoutError):
        says, advice = (
            f"no connection within {timeout_seconds:g} s",
            "Check that the machine is up, and the firewalls between",
        )
        return Refusal(kind="timeout", says=says, advice=advice)
    return Refusal(kind="no-route", says=f"no connection: {error.strerror}", advice="Check the network of this machine")


@contextlib.contextmanager
def _tls_failures(timeout_seconds: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        says = f"it takes connections and says nothing for {timeout_seconds:g} s"
        advice = "The process there hangs, or something else listens there: look at it, and start it again"
        raise DialError(Refusal(kind="silent", says=says, advice=advice)) from None
    except OSError as error:
        # ssl.SSLError is one; its reason is OpenSSL's word and holds nothing of ours.
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        advice = "Check the address; a proxy that ends TLS cannot stand between parties"
        says = f"what listens there does not speak our TLS ({reason})"
        raise DialError(Refusal(kind="no-tls", says=says, advice=advice)) from None
