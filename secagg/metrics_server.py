"""Prometheus metrics over HTTPS, for operators and auditors with a certificate and nobody else."""

from __future__ import annotations

import contextlib
import errno
import ssl
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from secagg.errors import CertificateError, ConfigError, NotAllowedError
from secagg.party import Role
from secagg.tls_identity import TlsIdentity

METRICS_ROLES: Final = frozenset({Role.OPERATOR, Role.AUDITOR})
CONNECTION_LIMIT_SECONDS: Final = 10.0
MAX_CONNECTIONS: Final = 16
STOP_POLL_SECONDS: Final = 0.1

_log: Final = structlog.get_logger("secagg.metrics")


class _Server(ThreadingHTTPServer):
    """Shakes hands in each connection's own thread, so that a silent caller holds up nobody."""

    daemon_threads = True
    # Waiting for every open connection at the end would put no limit on stop().
    block_on_close = False
    request_queue_size = 2 * MAX_CONNECTIONS

    def __init__(
        self,
        address: tuple[str, int],
        *,
        identity: TlsIdentity,
        registry: CollectorRegistry,
        now: Callable[[], datetime],
    ) -> None:
        self._identity = identity
        self._shown = identity.current
        self._context = self._shown.server_context()
        self.trust = identity.trust
        self.registry = registry
        self.now = now
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        raw: socket = request
        raw.settimeout(CONNECTION_LIMIT_SECONDS)
        with self._newest_context().wrap_socket(raw, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def _newest_context(self) -> ssl.SSLContext:
        newest = self._identity.current
        if newest.certificate_pem != self._shown.certificate_pem:
            # The files may be ahead of what was read of them: then the next connection finds them in step.
            with contextlib.suppress(ConfigError):
                self._context, self._shown = newest.server_context(), newest
        return self._context

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as its base class
        error = sys.exception()
        _log.info("metrics connection failed", peer=str(client_address), error=type(error).__name__, reason=str(error))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "secagg"
    sys_version = ""

    def do_GET(self) -> None:
        try:
            self._admit()
        except (CertificateError, NotAllowedError) as error:
            self._answer(HTTPStatus.FORBIDDEN, f"{error}\n".encode(), "text/plain; charset=utf-8")
            return
        if self.path != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, b"Metrics are at /metrics.\n", "text/plain; charset=utf-8")
            return
        self._answer(HTTPStatus.OK, generate_latest(self.server.registry), CONTENT_TYPE_LATEST)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        _log.debug("metrics request", request=format % args)

    def _admit(self) -> None:
        shown = self.connection.getpeercert(binary_form=True) if isinstance(self.connection, ssl.SSLSocket) else None
        if not shown:
            raise CertificateError("the caller showed no certificate", next_step="Call with mutual TLS")
        caller = self.server.trust.verify_certificate(shown, at=self.server.now())
        if caller.role not in METRICS_ROLES:
            raise NotAllowedError(f"{caller} may not read metrics, which are for operators and auditors")

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class MetricsServer:
    """Serves `/metrics` from `start` to `stop`.

    Args:
        identity: the serving party; its certificate needs a server role.
        registry: what is shown.
        host: the address to listen on.
        port: 0 lets the system choose.
        now: the clock.

    Raises:
        ConfigError: the port is in use, or the address is not this machine's.
    """

    def __init__(
        self,
        identity: TlsIdentity,
        registry: CollectorRegistry,
        *,
        host: str,
        port: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        try:
            self._server = _Server((host, port), identity=identity, registry=registry, now=now)
        except OSError as error:
            raise _not_bound(host, port, error) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_SECONDS,), name="metrics", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve, in a thread of its own."""
        self._thread.start()

    def stop(self, *, limit_seconds: float = 5.0) -> None:
        """Stop listening; wait for the serving thread, but never longer than the limit."""
        if self._thread.is_alive():
            # shutdown() itself waits without a limit, so it gets a thread to wait in.
            threading.Thread(target=self._server.shutdown, daemon=True).start()
            self._thread.join(limit_seconds)
        self._server.server_close()


def _not_bound(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"port {port} of {host} is already in use", next_step="Stop what listens there, or change it"
        )
    return ConfigError(f"cannot listen on {host}:{port}: {error.strerror}")
