"""Metrics are for operators and auditors, over mutual TLS."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from secagg.errors import ConfigError
from secagg.metrics_server import MAX_CONNECTIONS, MetricsServer
from secagg.party import Party
from secagg.tls_identity import TlsIdentity
from tests.pki_material import ALICE, AUDITOR, COORDINATOR, NORTH, OPERATOR, Deployment, deployment

LIMIT_SECONDS = 10.0


@pytest.fixture
def made(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "pki")


def _server(identity: TlsIdentity, *, ahead: timedelta = timedelta(), port: int = 0) -> MetricsServer:
    registry = CollectorRegistry()
    Counter("rounds_published", "Rounds that were published.", registry=registry).inc(3)
    return MetricsServer(identity, registry, host="127.0.0.1", port=port, now=lambda: datetime.now(UTC) + ahead)


@pytest.fixture
def running(made: Deployment) -> Iterator[MetricsServer]:
    server = _server(made.identity(COORDINATOR))
    server.start()
    yield server
    server.stop()


def _context(identity: TlsIdentity | None, authority: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    if identity is not None:
        context.load_cert_chain(identity.paths.certificate, identity.paths.private_key)
    return context


def _get(
    server: MetricsServer, made: Deployment, identity: TlsIdentity | None, path: str = "/metrics"
) -> tuple[int, str]:
    context = _context(identity, made.directory / "ca.pem")
    connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=LIMIT_SECONDS)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.mark.parametrize("party", [OPERATOR, AUDITOR], ids=str)
def test_operators_and_auditors_read_metrics(made: Deployment, running: MetricsServer, party: Party) -> None:
    status, text = _get(running, made, made.identity(party))
    assert status == 200
    assert "rounds_published_total 3.0" in text


@pytest.mark.parametrize("party", [ALICE, COORDINATOR, NORTH], ids=str)
def test_other_roles_read_none(made: Deployment, running: MetricsServer, party: Party) -> None:
    status, text = _get(running, made, made.identity(party))
    assert status == 403
    assert "for operators and auditors" in text
    assert "rounds_published" not in text


def test_other_paths_hold_nothing(made: Deployment, running: MetricsServer) -> None:
    assert _get(running, made, made.identity(OPERATOR), "/")[0] == 404


def test_a_caller_without_a_certificate_reads_none(made: Deployment, running: MetricsServer) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        _get(running, made, None)


def test_a_caller_of_a_foreign_ca_reads_none(made: Deployment, running: MetricsServer, tmp_path: Path) -> None:
    foreign = deployment(tmp_path / "other").identity(OPERATOR)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        _get(running, made, foreign)


def test_a_revoked_operator_reads_none(made: Deployment) -> None:
    operator, coordinator = made.identity(OPERATOR), made.issue(COORDINATOR)
    made.pki.revoke(OPERATOR, at=datetime.now(UTC))
    server = _server(TlsIdentity.load(coordinator, at=datetime.now(UTC)))
    server.start()
    try:
        status, text = _get(server, made, operator)
    finally:
        server.stop()
    assert (status, "was revoked" in text) == (403, True)


def test_an_operator_whose_certificate_ends_reads_none(made: Deployment) -> None:
    server = _server(made.identity(COORDINATOR), ahead=timedelta(days=366))
    server.start()
    try:
        status, text = _get(server, made, made.identity(OPERATOR))
    finally:
        server.stop()
    assert (status, "expired" in text) == (403, True)


def test_a_port_in_use_is_a_clear_error(made: Deployment, running: MetricsServer) -> None:
    with pytest.raises(ConfigError, match=f"port {running.port} of 127.0.0.1 is already in use"):
        _server(made.identity(COORDINATOR), port=running.port)


def test_an_address_of_another_machine_is_a_clear_error(made: Deployment) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        MetricsServer(made.identity(COORDINATOR), CollectorRegistry(), host="192.0.2.1", port=0)


def test_a_silent_caller_holds_up_nobody(made: Deployment, running: MetricsServer) -> None:
    operator = made.identity(OPERATOR)
    with socket.create_connection(("127.0.0.1", running.port)):
        assert _get(running, made, operator)[0] == 200


def test_too_many_silent_callers_are_turned_away(running: MetricsServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(MAX_CONNECTIONS)]
    try:
        with socket.create_connection(("127.0.0.1", running.port), timeout=LIMIT_SECONDS) as one_more:
            assert one_more.recv(1) == b""
    finally:
        for one in silent:
            one.close()


def test_stop_ends_the_thread_and_frees_the_port_within_its_limit(made: Deployment) -> None:
    identity = made.identity(COORDINATOR)
    server = _server(identity)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)):
        began = time.monotonic()
        server.stop(limit_seconds=5.0)
        assert time.monotonic() - began < 5.0
    assert "metrics" not in {thread.name for thread in threading.enumerate()}
    again = _server(identity, port=server.port)
    again.stop()
