"""Set-ups for `secagg doctor`: real certificates, real sockets and real gRPC servers that are as wrong as a test wants."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from secagg.doctor.examination import Examination, run_checks
from secagg.doctor.findings import Finding, Level
from secagg.doctor.identity import ExaminedIdentity, identity_check
from secagg.party import Party
from secagg.tls_identity import TlsPaths
from tests.pki_material import Deployment

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
QUICK = Examination(timeout_seconds=2.0)


def at_clock(at: datetime, **options: object) -> Examination:
    """Return an examination whose clock stands still."""
    return Examination(clock=lambda: at, timeout_seconds=2.0, **options)  # type: ignore[arg-type]


def off_by(span: timedelta) -> Examination:
    """Return an examination whose clock is off and goes on."""
    return Examination(clock=lambda: datetime.now(UTC) + span, timeout_seconds=2.0)


def checks(findings: Iterable[Finding], *levels: Level) -> set[str]:
    """Return what was found, of these levels or of all."""
    return {one.check for one in findings if not levels or one.level in levels}


def bad(findings: Iterable[Finding]) -> set[str]:
    """Return what is not well."""
    return checks(findings, Level.WARNING, Level.BROKEN)


def the(findings: Iterable[Finding], check: str) -> Finding:
    """Return the one finding of that name."""
    (found,) = [one for one in findings if one.check == check]
    return found


def examined(directory: Path, party: Party, examination: Examination = QUICK) -> tuple[ExaminedIdentity, list[Finding]]:
    """Examine the identity in a directory, as that of a party of this role."""
    own = ExaminedIdentity(paths=TlsPaths.of(directory), at=examination.clock())
    check = identity_check(own, frozenset({party.role}), warn_days=examination.warn_days)
    return own, run_checks([check], examination)


def own_identity(made: Deployment, party: Party) -> ExaminedIdentity:
    """Return a party's identity as the doctor reads it, all well."""
    made.identity(party)
    own, findings = examined(made.pki.path_of(party), party)
    assert not bad(findings), findings
    return own


@contextmanager
def grpc_server(shown: Path, *, trusts: Path | None = None, status: int = SERVING) -> Iterator[str]:
    """Serve gRPC's health check with the certificate in a directory, right or wrong; yield the address.

    `trusts`: the directory whose CA callers need; that of the certificate when left out.
    """
    pair = ((shown / "key.pem").read_bytes(), (shown / "cert.pem").read_bytes())
    authority = ((trusts or shown) / "ca.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    servicer = health.HealthServicer()
    servicer.set("", status)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


@contextmanager
def listener(*, backlog: int = 5) -> Iterator[socket.socket]:
    """Listen on a port and never accept, as a process that hangs."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen(backlog)
        yield opened


def address_of(opened: socket.socket) -> str:
    return f"127.0.0.1:{opened.getsockname()[1]}"


def can_mount() -> bool:
    """Say whether this process may mount a file system: root, and not in a container that forbids it."""
    with tempfile.TemporaryDirectory() as made:
        try:
            with small_disk(Path(made)):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


@contextmanager
def small_disk(directory: Path, *, kibibytes: int = 1024) -> Iterator[Path]:
    """Mount a tiny file system of its own."""
    directory.mkdir(exist_ok=True)
    what = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs"]
    subprocess.run(["mount", *what, str(directory)], check=True, capture_output=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def remount_read_only(directory: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)
