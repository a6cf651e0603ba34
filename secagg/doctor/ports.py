"""The ports that a service listens on: free, held by this very party, or by a stranger."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import Final

from secagg.doctor.examination import Check, Examination
from secagg.doctor.findings import Finding, broken, ok, warning
from secagg.doctor.handshake import GRPC_PROTOCOLS, DialError, judge, shown_certificate, split_address
from secagg.doctor.identity import ExaminedIdentity
from secagg.doctor.peers import asked_for_health
from secagg.errors import NotAllowedError, SecAggError
from secagg.party import Party

EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, never listened on
"""Addresses that stand for all of this machine, and where to dial one of them."""


def port_check(
    address: str, own: ExaminedIdentity, examination: Examination, *, protocols: tuple[str, ...] = GRPC_PROTOCOLS
) -> Check:
    """Return the check of one address that the configuration listens on; HTTPS has no protocols to name."""
    listener = _Listener(address=address, own=own, timeout_seconds=examination.timeout_seconds, protocols=protocols)
    return Check(area="port", subject=address, run=lambda: [listener.finding()])


@dataclass(frozen=True, kw_only=True)
class _Listener:
    address: str
    own: ExaminedIdentity
    timeout_seconds: float
    protocols: tuple[str, ...]

    def finding(self) -> Finding:
        failure = _bind_failure(self.address)
        if failure is None:
            return ok("port.free", self.address, "free: the service does not run, and could")
        if failure == errno.EADDRINUSE:
            return self._in_use()
        if failure == errno.EACCES:
            advice = "Choose a port from 1024 on, or give the service the right to listen below it"
            return broken("port.forbidden", self.address, "this user may not listen on that port", advice)
        advice = "Listen on an address of this machine, or on 0.0.0.0 for all of them"
        return broken("port.no-address", self.address, f"nobody can listen there: {os.strerror(failure)}", advice)

    def _in_use(self) -> Finding:
        party = self.own.party
        if party is None:
            says = "in use, and nobody can tell by whom without our own certificate"
            return warning("port.unknown", self.address, says, "See to the certificate first")
        try:
            der = shown_certificate(
                self._dialled, self.own, timeout_seconds=self.timeout_seconds, protocols=self.protocols
            )
        except DialError as error:
            return self._stranger(error.refusal.says)
        refusal = judge(der, self.own, party)
        return self._ours(party, der) if refusal is None else self._stranger(refusal.says)

    @property
    def _dialled(self) -> str:
        host, port = split_address(self.address)
        host = EVERYWHERE.get(host, host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _stranger(self, says: str) -> Finding:
        advice = "Find it with `ss -ltnp` and stop it, or choose another port"
        return broken("port.stranger", self.address, f"in use by something that is not this service: {says}", advice)

    def _ours(self, party: Party, der: bytes) -> Finding:
        identity = self.own.loaded
        if identity is not None and der != identity.signer.certificate:
            says = f"{party} runs there with another certificate than that in {self.own.paths.certificate}"
            return warning("port.old-certificate", self.address, says, "Let it read its files again, or restart it")
        if identity is None or not self.protocols:
            return ok("port.ours", self.address, f"in use by {party} itself")
        try:
            serving = asked_for_health(self._dialled, party, identity, self.timeout_seconds)
        except NotAllowedError:
            # Only a service that took the certificate and looked at its role answers so.
            serving = True
        except SecAggError as error:
            says = f"{party} itself runs there and does not answer: {error.cause}"
            return broken("port.hangs", self.address, says, "Look at its log, and start it again")
        if serving:
            return ok("port.ours", self.address, f"in use by {party} itself, which answers")
        return warning("port.not-serving", self.address, f"{party} itself starts or drains", "Ask again in a minute")


def _bind_failure(address: str) -> int | None:
    """Bind and never listen: a service that starts meanwhile is not kept out."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None
