"""The servers that tests bring up: they are real, of one's own, and never outlive who started them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import psycopg
import pytest

from secagg.demo.processes import free_port
from tests.services import postgres
from tests.services.postgres import PostgresServer
from tests.services.s3 import CREDENTIALS, REGION, S3Server
from tests.services.shared import postgres_server, s3_server

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 30.0
_STARTER = """
import sys, time
from tests.services.postgres import PostgresServer
from tests.services.s3 import S3Server
with PostgresServer() as database, S3Server() as bucket:
    print(database._server._guard.pid, bucket._server._guard.pid, database._directory, bucket._directory, flush=True)
    time.sleep(600)
"""


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_until_gone(processes: list[int]) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while left := [pid for pid in processes if _runs(pid)]:
        assert time.monotonic() < limit, f"{left} still run"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("victim", ["starter", "guards"])
def test_a_kill_leaves_no_process_behind(victim: str) -> None:
    words: list[str] = []
    starter = subprocess.Popen([sys.executable, "-c", _STARTER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert starter.stdout is not None
        words = starter.stdout.readline().split()
        guards = [int(word) for word in words[:2]]
        servers = [child for guard in guards for child in _children(guard)]
        assert len(servers) == 2
        if victim == "starter":
            os.kill(starter.pid, signal.SIGKILL)
            _wait_until_gone([*guards, *servers])
            assert not any(Path(word).exists() for word in words[2:])
        else:
            for guard in guards:
                os.kill(guard, signal.SIGKILL)
            _wait_until_gone(servers)
    finally:
        starter.kill()
        starter.communicate()
        for word in words[2:]:
            # A guard that was killed could not.
            shutil.rmtree(word, ignore_errors=True)


def test_each_database_is_new() -> None:
    first, second = postgres_server().new_database(), postgres_server().new_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE one (number integer)")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'one'").fetchone() == (0,)


def test_a_wrong_password_is_refused() -> None:
    """As in production: a test that a password does not show would be empty otherwise."""
    url = postgres_server().new_database()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(f"{postgres.USER}:", f"{postgres.USER}:x"))


def test_each_bucket_is_new() -> None:
    first, second = s3_server().new_bucket(), s3_server().new_bucket()
    assert first.partition("?")[0] != second.partition("?")[0]
    keys = {"aws_access_key_id": "test-key", "aws_secret_access_key": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
    client = boto3.client("s3", endpoint_url=s3_server().endpoint, region_name=REGION, **keys)
    assert len(client.list_buckets()["Buckets"]) >= 2
    client.close()


def test_a_machine_without_postgresql_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_candidates", list)
    with pytest.raises(RuntimeError, match="make setup"):
        PostgresServer().__enter__()


def test_a_taken_port_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = s3_server().port
    ports = [taken]
    monkeypatch.setattr(postgres, "free_port", lambda: ports.pop() if ports else free_port())
    with PostgresServer() as server:
        assert server.port != taken
        server.connect().close()


def test_a_server_is_gone_after_its_block() -> None:
    with S3Server() as server:
        port = server.port
        directory = server._directory
    assert directory is not None
    assert not directory.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
